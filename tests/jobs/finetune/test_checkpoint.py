"""Checkpoints are whole or not there, the newest two, here and in a store."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from common.storage import StorageUnavailable, open_store
from jobs.finetune.checkpoint import TENSORS, Checkpoints, State
from jobs.finetune.inputs import Identity

IDENTITY = Identity({"seed": 0}, "sha256:base", "sha256:data", None, 1)
TENSORS_NOW = {"master": torch.tensor([1.5, 2.5]), "step": torch.tensor(10.0)}


def state(step: int) -> State:
    return State(step, IDENTITY, threads=2, base_validation_loss=3.25)


def test_what_was_saved_comes_back_exactly(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state(10), TENSORS_NOW)
    latest = checkpoints.latest()
    assert latest is not None
    assert latest.state == state(10)
    tensors = latest.tensors()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in TENSORS_NOW.items())


def test_the_books_come_back_where_they_are_missing(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    (here / "metrics.jsonl").write_text("a step\n")
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(state(5), TENSORS_NOW, [here / "metrics.jsonl", here / "mlflow-run"])
    latest = checkpoints.latest()
    assert latest is not None
    (here / "metrics.jsonl").write_text("a step\nanother\n")
    for folder in (here, there):
        latest.restore([folder / "metrics.jsonl", folder / "mlflow-run"])
    assert (here / "metrics.jsonl").read_text() == "a step\nanother\n"
    assert [(path.name, path.read_text()) for path in there.iterdir()] == [("metrics.jsonl", "a step\n")]


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in (5, 10, 15, 20):
        checkpoints.save(state(step), TENSORS_NOW)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000015", "step-00000020"]


def test_a_half_written_one_is_never_seen_and_is_removed(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state(5), TENSORS_NOW)
    half = tmp_path / ".new-killed"
    half.mkdir()
    (half / TENSORS).write_bytes(b"half")
    latest = checkpoints.latest()
    assert latest is not None
    assert latest.state.step == 5
    checkpoints.sweep()
    assert not half.exists()


@pytest.mark.parametrize("damage", [b"", b"not tensors"])
def test_a_damaged_one_is_left_out_for_the_one_before(tmp_path: Path, damage: bytes) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in (5, 10):
        checkpoints.save(state(step), TENSORS_NOW)
    (tmp_path / "step-00000010" / TENSORS).write_bytes(damage)
    latest = checkpoints.latest()
    assert latest is not None
    assert latest.state.step == 5


def test_a_pod_with_an_empty_disk_goes_on_from_the_stores_newest_complete_copy(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    here = Checkpoints(tmp_path / "here", store, "checkpoints/run")
    for step in (5, 10, 15):
        here.save(state(step), TENSORS_NOW)
    store.put_bytes(b"an upload that was cut off", f"checkpoints/run/step-00000020-dead/{TENSORS}")
    latest = Checkpoints(tmp_path / "elsewhere", store, "checkpoints/run").latest()
    assert latest is not None
    assert latest.state.step == 15
    assert {key.split("/")[2].rpartition("-")[0] for key in store.list("checkpoints/run")} == {
        "step-00000010",
        "step-00000015",
        "step-00000020",
    }
    here.clear()
    assert store.list("checkpoints/run") == []


def test_a_store_that_is_away_stops_no_training_but_a_start_that_may_need_it(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "store"
    store = open_store(str(folder))
    folder.rmdir()
    checkpoints = Checkpoints(tmp_path / "here", store, "checkpoints/run")
    with pytest.raises(StorageUnavailable):
        checkpoints.latest()
    checkpoints.save(state(5), TENSORS_NOW)
    latest = checkpoints.latest()
    assert latest is not None
    assert latest.state.step == 5


def test_what_changed_is_said_by_name() -> None:
    now = replace(IDENTITY, training={"seed": 1}, world_size=2)
    assert now.changes_since(IDENTITY) == ["seed is 1, was 0", "world size is 2, was 1"]
    assert now.digest != IDENTITY.digest == replace(IDENTITY).digest
