"""The store on a real S3, the one that the chart bundles; what differs there from a folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from common.storage import MANIFEST, Store, open_store
from jobs.finetune.checkpoint import Checkpoints, State
from jobs.finetune.inputs import Identity
from tests import s3

SAME_RUN = Identity(
    training={"rank": 8}, base_revision="1", dataset_digest="2", validation_digest=None, world_size=1
)


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with s3.running(tmp_path_factory.mktemp("s3")) as environ, pytest.MonkeyPatch.context() as patch:
        for name, value in environ.items():
            patch.setenv(name, value)
        yield s3.make_bucket("onggi")


@pytest.fixture
def store(bucket: str) -> Store:
    return open_store(bucket)


def test_keys_are_written_listed_read_and_deleted(store: Store, tmp_path: Path) -> None:
    assert store.list("results") == []
    store.put_bytes(b"1", "results/a/job.json")
    store.put_bytes(b"2", "results/b/job.json")
    assert store.list("results") == ["results/a/job.json", "results/b/job.json"]
    assert store.get_bytes("results/a/job.json") == b"1"
    with pytest.raises(FileNotFoundError):
        store.get_bytes("results/c/job.json")
    store.delete("results/a")
    assert store.list("results") == ["results/b/job.json"]
    store.delete("results")
    store.delete("results")
    assert (store.list("results"), store.list(), store.exists("results")) == ([], [], False)


def test_a_folder_is_there_when_its_manifest_is(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    for name in ("weights", MANIFEST):
        (folder / name).write_text(name)
    store.put_folder(folder, "adapters/support-bot/7")
    assert store.exists(f"adapters/support-bot/7/{MANIFEST}")
    assert store.exists("adapters/support-bot")
    assert not store.exists("adapters/support-bot/8")
    store.get_folder("adapters/support-bot/7", tmp_path / "back")
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == [MANIFEST, "weights"]


def test_a_checkpoint_is_found_again_from_an_empty_disk(store: Store, tmp_path: Path) -> None:
    import torch

    books = tmp_path / "metrics.jsonl"
    books.write_text('{"step": 3}\n')
    first = Checkpoints(tmp_path / "first", store, "jobs/ftjob-1/checkpoints/run")
    for step in (1, 2, 3):
        first.save(State(step, SAME_RUN, 1, None), {"weights": torch.arange(step)}, [books])
    assert len([key for key in store.list("jobs") if key.endswith(MANIFEST)]) == 2
    second = Checkpoints(tmp_path / "second", store, "jobs/ftjob-1/checkpoints/run")
    found = second.latest()
    assert found is not None
    assert (found.state.step, found.state.identity, len(found.tensors()["weights"])) == (3, SAME_RUN, 3)
    assert (found.folder / "metrics.jsonl").read_text() == books.read_text()
    second.clear()
    assert store.list("jobs") == []
