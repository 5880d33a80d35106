"""``python -m jobs.curate``, reading from a real control."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from common.rows import read_rows
from jobs.curate.__main__ import main
from tests.jobs.retrain.conftest import BOT, answer, correct
from tests.services.control.conftest import JOB_TOKEN, House


async def test_it_writes_a_folder_to_look_at_and_tells_what_was_left_out(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = {await correct(house, number) for number in range(12)}
    picture = [{"type": "image_url", "image_url": {"url": "data:,"}}]
    about = await answer(house, "picture", "", messages=[{"role": "user", "content": picture}])
    await house.post("/onggi/v1/feedback", {"completion_id": about, "rating": 1, "state": "accepted"})
    monkeypatch.setenv("CONTROL_URL", str(house.http.base_url))
    monkeypatch.setenv("CONTROL_TOKEN", JOB_TOKEN)
    monkeypatch.setattr(sys, "argv", ["curate", BOT, "--output", str(tmp_path / "out")])
    await asyncio.to_thread(main)
    await asyncio.to_thread(main)  # the same words, the same bytes: nothing to replace
    told = capsys.readouterr().out
    assert "only text parts can be learned" in told
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert {source["id"] for source in manifest["sources"]} == ids
    assert manifest["digest"] == read_rows(tmp_path / "out" / "train.jsonl").digest
    held = read_rows(tmp_path / "out" / "heldout.jsonl").rows
    assert {row.source_id for row in held} == {
        source["id"] for source in manifest["sources"] if source["held_out"]
    }
