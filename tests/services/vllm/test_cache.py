"""Adapters on disk: checked whenever they are asked for, and never removed under a server."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from common import adapters
from common.adapters import AdapterError
from common.models import BaseModel
from common.names import VersionName
from common.storage import MANIFEST, StorageUnavailable, Store, open_store
from services.vllm.cache import AdapterCache

BASE = BaseModel(Path("/models/SmolLM2"), "SmolLM2", "sha256:00")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def make_cache(folder: Path, store: Store, keep: int = 8) -> AdapterCache:
    return AdapterCache(
        folder / "cache", store_url=store.url, base="SmolLM2", revision="sha256:00", max_rank=16, keep=keep
    )


def publish(store: Store, folder: Path, number: int = 7, weights: bytes = b"weights") -> VersionName:
    name = VersionName("support-bot", number)
    made = folder / f"made-{number}"
    made.mkdir()
    (made / adapters.WEIGHTS).write_bytes(weights)
    (made / adapters.CONFIG).write_text(json.dumps({"r": 16}))
    manifest = adapters.make_manifest(made, name=name, base=BASE, rank=16)
    (made / MANIFEST).write_text(manifest.model_dump_json())
    store.put_folder(made, name.folder)
    return name


def adapter_folders(folder: Path) -> list[Path]:
    return [path for path in (folder / "cache").iterdir() if path.is_dir()]


def test_a_version_is_fetched_once_and_kept_by_its_content(store: Store, tmp_path: Path) -> None:
    name = publish(store, tmp_path)
    cache = make_cache(tmp_path, store)
    folder = cache.fetch(name)
    assert sorted(path.name for path in folder.iterdir()) == [adapters.CONFIG, adapters.WEIGHTS]
    store.delete(f"{name.folder}/{adapters.WEIGHTS}")
    assert cache.fetch(name) == folder
    assert adapter_folders(tmp_path) == [folder]


def test_a_damaged_folder_is_noticed_and_fetched_again(store: Store, tmp_path: Path) -> None:
    name = publish(store, tmp_path)
    folder = make_cache(tmp_path, store).fetch(name)
    (folder / adapters.WEIGHTS).write_bytes(b"WEIGHTS")
    assert make_cache(tmp_path, store).fetch(name) == folder
    assert (folder / adapters.WEIGHTS).read_bytes() == b"weights"
    (folder / adapters.CONFIG).unlink()
    assert (make_cache(tmp_path, store).fetch(name) / adapters.CONFIG).is_file()


def test_nothing_is_left_of_a_version_that_is_not_what_was_registered(store: Store, tmp_path: Path) -> None:
    name = publish(store, tmp_path)
    store.put_bytes(b"other", f"{name.folder}/{adapters.WEIGHTS}")
    with pytest.raises(AdapterError, match=r"support-bot@7: adapter_model.safetensors is not what"):
        make_cache(tmp_path, store).fetch(name)
    store.delete(f"{name.folder}/{adapters.WEIGHTS}")
    with pytest.raises(AdapterError, match=r"support-bot@7: adapter_model.safetensors is missing"):
        make_cache(tmp_path, store).fetch(name)
    assert not adapter_folders(tmp_path)


def test_an_unknown_version_and_a_store_that_is_away_are_told_apart(store: Store, tmp_path: Path) -> None:
    name = publish(store, tmp_path)
    cache = make_cache(tmp_path, store)
    with pytest.raises(FileNotFoundError):
        cache.fetch(VersionName("support-bot", 8))
    shutil.rmtree(store.url)
    with pytest.raises(StorageUnavailable):
        cache.fetch(name)


def test_only_the_newest_folders_that_nobody_holds_are_kept(store: Store, tmp_path: Path) -> None:
    names = [publish(store, tmp_path, number, f"weights {number}".encode()) for number in range(1, 6)]
    earlier = make_cache(tmp_path, store)
    old, held = (earlier.fetch(name) for name in names[:2])
    for age, folder in ((300, old), (200, held)):
        os.utime(folder, (time.time() - age, time.time() - age))
    del_locks(earlier)
    running = make_cache(tmp_path, store)
    running.fetch(names[1])
    os.utime(held, (time.time() - 400, time.time() - 400))
    later = make_cache(tmp_path, store, keep=2)
    for name in names[2:4]:
        later.fetch(name)
    assert not old.exists()
    assert held.exists()
    assert {held, later.fetch(names[2]), later.fetch(names[3])} == set(adapter_folders(tmp_path))


def test_what_a_killed_server_left_half_fetched_goes_after_a_day(store: Store, tmp_path: Path) -> None:
    name = publish(store, tmp_path)
    (tmp_path / "cache").mkdir()
    old, fresh = tmp_path / "cache/.fetching-old", tmp_path / "cache/.fetching-fresh"
    for folder in (old, fresh):
        folder.mkdir()
    os.utime(old, (0, 0))
    make_cache(tmp_path, store).fetch(name)
    assert not old.exists()
    assert fresh.exists()


def del_locks(cache: AdapterCache) -> None:
    """End a server: the operating system lets go of what it held."""
    for descriptor in cache._locks.values():
        os.close(descriptor)
