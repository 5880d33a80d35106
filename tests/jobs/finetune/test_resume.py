"""Killed at any moment, the same command ends with the very same weights."""

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.finetune import rows
from tests.jobs.finetune.processes import Job, Jobs

Uninterrupted = tuple[Path, tuple[bytes, Any], float]


def flags(base: Path, data: Path, output: Path, *more: str) -> list[str]:
    return [
        *("--base", str(base), "--data", str(data), "--output", str(output)),
        *("--epochs", "8", "--batch-size", "4", "--gradient-accumulation", "2", "--dropout", "0.1"),
        *("--checkpoint-every", "3", *more),
    ]


def outcome(output: Path) -> tuple[bytes, list[dict[str, Any]]]:
    """The weights to the bit, and the steps without what depends on the clock."""
    steps = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    for step in steps:
        del step["time"], step["tokens_per_second"]
    return (output / "adapter" / "adapter_model.safetensors").read_bytes(), steps


def wait_for_checkpoint(output: Path, job: Job) -> None:
    """So that at least one of the kills leaves something to go on from."""
    while job.process.is_alive() and not list(output.glob("checkpoints/step-*")):
        time.sleep(0.005)


@pytest.fixture(scope="module")
def uninterrupted(jobs: Jobs, tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Uninterrupted:
    """The data, what a run on it ends with, and how many seconds that takes."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    data = rows.write(folder / "rows.jsonl", 30)
    began = time.monotonic()
    ended = jobs.run(folder, *flags(tiny_base, data, folder / "out"))
    assert ended.code == 0, ended.stderr
    return data, outcome(folder / "out"), time.monotonic() - began


@pytest.mark.parametrize(
    "seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(3, 23))]
)
def test_sigkill_and_the_same_command_end_with_bitwise_equal_weights(
    seed: int, uninterrupted: Uninterrupted, jobs: Jobs, tiny_base: Path, tmp_path: Path
) -> None:
    data, expected, seconds = uninterrupted
    command = flags(tiny_base, data, tmp_path / "out")
    moments = random.Random(seed)
    for after_checkpoint in (False, True):
        job = jobs.start(tmp_path, *command)
        if after_checkpoint:
            wait_for_checkpoint(tmp_path / "out", job)
        time.sleep(moments.uniform(0, seconds * (0.3 if after_checkpoint else 1)))
        job.process.kill()
        job.process.join()
    ended = jobs.run(tmp_path, *command)
    assert ended.code == 0, ended.stderr
    assert outcome(tmp_path / "out") == expected
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left == {"adapter", "metrics.jsonl", "result.json", ".lock"}
