"""Processes that train together end with what one process ends with, and none is ever left waiting."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.jobs.finetune import rows
from tests.jobs.finetune.processes import Ended, Job, Jobs

ADAPTER = "adapter/adapter_model.safetensors"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rows.write(tmp_path_factory.mktemp("data") / "rows.jsonl", 30)


def flags(base: Path, data: Path, output: str, *more: str) -> list[str]:
    return ["--base", str(base), "--data", str(data), "--output", output, "--peer-timeout", "60", *more]


def vector(output: Path) -> torch.Tensor:
    return torch.cat([tensor.flatten() for _, tensor in sorted(load_file(output / ADAPTER).items())])


def losses(output: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (output / "metrics.jsonl").read_text().splitlines()]


def result(output: Path) -> dict[str, Any]:
    return dict(json.loads((output / "result.json").read_text()))


def codes(ended: list[Ended]) -> list[int]:
    return [one.code for one in ended]


EXACT = ["--precision", "fp32", "--learning-rate", "0.01"]
EXACT += ["--batch-size", "2", "--gradient-accumulation", "2", "--epochs", "1"]


@pytest.fixture(scope="module")
def alone(jobs: Jobs, tiny_base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process ends with after an epoch of eight steps, of which the last has two rows."""
    folder = tmp_path_factory.mktemp("alone")
    command = flags(tiny_base, data, str(folder / "out"), *EXACT, "--validation", str(data))
    ended = jobs.run(folder, *command)
    assert ended.code == 0, ended.stderr
    return folder / "out"


@pytest.mark.parametrize(
    "count",
    [pytest.param(2, id="two", marks=pytest.mark.soak), pytest.param(3, id="uneven-and-empty-shares")],
)
def test_the_same_rows_make_the_same_adapter(
    count: int, alone: Path, jobs: Jobs, tiny_base: Path, data: Path, tmp_path: Path
) -> None:
    more = [*EXACT, "--validation", str(data)]
    ended = jobs.run_together(count, tmp_path, *flags(tiny_base, data, str(tmp_path / "out-@"), *more))
    assert codes(ended) == [0] * count, [one.stderr for one in ended]
    expected, together = vector(alone), vector(tmp_path / "out-0")
    assert float((together - expected).norm() / expected.norm()) < 1e-5
    assert losses(tmp_path / "out-0") == pytest.approx(losses(alone), rel=1e-5)
    before, after = result(alone), result(tmp_path / "out-0")
    assert after["validation_loss"] == pytest.approx(before["validation_loss"], rel=1e-5)
    assert (after["trained_tokens"], after["identity"]["world_size"]) == (before["trained_tokens"], count)
    assert "tokens/s" in ended[0].stderr
    for rank in range(1, count):
        assert not (tmp_path / f"out-{rank}").exists(), "only the first process writes"
        assert (ended[rank].stdout, "tokens/s" in ended[rank].stderr) == ("", False)


RANDOM = ["--batch-size", "4", "--dropout", "0.1", "--epochs", "4", "--checkpoint-every", "5"]


@pytest.fixture(scope="module")
def uninterrupted(jobs: Jobs, tiny_base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes end with, dropout and all."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    ended = jobs.run_together(2, folder, *flags(tiny_base, data, str(folder / "out-@"), *RANDOM))
    assert codes(ended) == [0, 0]
    return folder / "out-0"


@pytest.mark.parametrize("killed", [pytest.param(0, marks=pytest.mark.soak), 1])
def test_a_killed_process_ends_the_others_and_all_go_on_to_the_very_same_weights(
    killed: int, uninterrupted: Path, jobs: Jobs, tiny_base: Path, data: Path, tmp_path: Path
) -> None:
    given = [*RANDOM, "--checkpoint-store", str(tmp_path / "store")]
    started = jobs.start_together(2, tmp_path, *flags(tiny_base, data, str(tmp_path / "killed-@"), *given))
    _wait_for_checkpoint(tmp_path / "store", started[0])
    started[killed].process.kill()
    survivor = started[1 - killed].wait(30)  # at once, and not after the 60 seconds that peers are waited for
    assert survivor.code == 1, "a retry helps"
    assert "another process of this run died" in survivor.stderr
    replaced = flags(tiny_base, data, str(tmp_path / "replaced-@"), *given)  # pods with empty disks
    ended = jobs.run_together(2, tmp_path, *replaced)
    assert codes(ended) == [0, 0]
    first = next(line for line in map(json.loads, ended[0].stdout.splitlines()) if line["event"] == "step")
    assert first["step"] > 5, "they went on from a checkpoint"
    output = tmp_path / "replaced-0"
    assert (output / ADAPTER).read_bytes() == (uninterrupted / ADAPTER).read_bytes()
    assert losses(output) == losses(uninterrupted), "with the steps before the checkpoint"
    assert result(output)["trained_tokens"] == result(uninterrupted)["trained_tokens"]


def _wait_for_checkpoint(store: Path, leader: Job) -> None:
    while leader.process.is_alive() and not list(store.glob("checkpoints/*/step-*/manifest.json")):
        time.sleep(0.005)


def test_a_mistake_that_one_process_finds_ends_all_with_its_sentence(
    jobs: Jobs, tiny_base: Path, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "rows-0.jsonl").write_bytes(data.read_bytes())
    given = flags(tiny_base, tmp_path / "rows-@.jsonl", str(tmp_path / "out-@"))
    ended = jobs.run_together(2, tmp_path, *given)
    assert codes(ended) == [2, 2]
    assert ended[0].stderr == ended[1].stderr
    assert "rows-1.jsonl" in ended[0].stderr
    rows.write(tmp_path / "rows-1.jsonl", 29)
    ended = jobs.run_together(2, tmp_path, *given)
    assert codes(ended) == [2, 2]
    assert "process 1 has not what process 0 has (dataset digest is sha256:" in ended[0].stderr


def test_another_number_of_processes_is_another_run(
    alone: Path, jobs: Jobs, tiny_base: Path, data: Path, tmp_path: Path
) -> None:
    given = flags(tiny_base, data, str(alone), *EXACT, "--validation", str(data))
    ended = jobs.run_together(2, tmp_path, *given)
    assert codes(ended) == [2, 2]
    assert "holds another run (world size is 2, was 1)" in ended[1].stderr


def test_a_process_that_waits_in_vain_ends_with_a_code_that_is_retried(
    jobs: Jobs, tiny_base: Path, data: Path, tmp_path: Path
) -> None:
    command = flags(tiny_base, data, str(tmp_path / "out"), "--peer-timeout", "1")
    lonely = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    ended = jobs.run(tmp_path, *command, **lonely, MASTER_PORT="0")
    assert ended.code == 1
    assert "another process of this run died or did not answer" in ended.stderr
    ended = jobs.run(tmp_path, *command, **lonely)
    assert ended.code == 2
    assert "WORLD_SIZE is set, but not MASTER_PORT" in ended.stderr
