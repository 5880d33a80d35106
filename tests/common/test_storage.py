import errno
from pathlib import Path

import pytest

from common.storage import StorageUnavailable, Store, fetch, open_store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def fill(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_json", ".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def write_half(store: Store, key: str) -> None:
    with store.open(key, "wb") as file:
        file.write(b"half")
        raise ValueError("mine")


def test_bytes_and_files_come_back_as_they_went(store: Store, tmp_path: Path) -> None:
    store.put_bytes(b"\x00one", "files/file-1")
    (tmp_path / "two").write_bytes(b"two")
    store.put_file(tmp_path / "two", "files/file-2")
    store.get_file("files/file-1", tmp_path / "back" / "one")
    assert (tmp_path / "back" / "one").read_bytes() == b"\x00one"
    assert store.get_bytes("files/file-2") == b"two"
    assert store.size("files/file-1") == 4
    assert store.list("files") == ["files/file-1", "files/file-2"]
    assert store.list() == ["files/file-1", "files/file-2"]


def test_folders_come_back_with_their_subfolders(store: Store, tmp_path: Path) -> None:
    store.put_folder(fill(tmp_path / "a", x="1", sub__y="2", manifest_json="{}"), "checkpoints/run/step-1")
    store.get_folder("checkpoints/run/step-1", tmp_path / "b")
    assert (tmp_path / "b" / "sub" / "y").read_text() == "2"
    assert sorted(path.name for path in (tmp_path / "b").rglob("*")) == ["manifest.json", "sub", "x", "y"]


def test_a_folder_put_again_replaces_the_first_whole(store: Store, tmp_path: Path) -> None:
    store.put_folder(fill(tmp_path / "a", old="1"), "results/job")
    store.put_folder(fill(tmp_path / "b", new="2"), "results/job")
    assert store.list("results/job") == ["results/job/new"]


def test_a_missing_key_and_a_missing_store_are_told_apart(store: Store, tmp_path: Path) -> None:
    for read in (store.get_bytes, store.size):
        with pytest.raises(FileNotFoundError, match="nothing lies at file://"):
            read("files/none")
    with pytest.raises(FileNotFoundError):
        store.get_folder("adapters/b/1", tmp_path / "b")
    assert store.list("adapters") == []
    assert not store.exists("adapters/b/1")
    (tmp_path / "store").rename(tmp_path / "away")
    for ask in (store.get_bytes, store.exists, store.list):
        with pytest.raises(StorageUnavailable, match="is away"):
            ask("files/none")


def test_a_write_that_fails_leaves_the_old_content_and_no_litter(store: Store, tmp_path: Path) -> None:
    store.put_bytes(b"old", "files/f")
    with pytest.raises(ValueError, match="mine"):
        write_half(store, "files/f")
    assert store.get_bytes("files/f") == b"old"
    assert [path.name for path in (tmp_path / "store" / "files").iterdir()] == ["f"]


def test_a_reader_never_sees_a_half_written_file(store: Store) -> None:
    with store.open("files/f", "wb") as file:
        file.write(b"half")
        file.flush()
        assert not store.exists("files/f")
        assert store.list() == []
    assert store.get_bytes("files/f") == b"half"


def test_a_full_disk_is_a_sentence_about_the_store(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageUnavailable, match=r"the store does not answer for file://.*No space left"):
        store.put_bytes(b"x", "files/f")
    assert store.list() == []


def test_a_download_of_a_folder_that_fails_leaves_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put_folder(fill(tmp_path / "a", x="1", y="2"), "adapters/b/1")
    get_file = store.get_file

    def second_fails(key: str, local: Path) -> None:
        if key.endswith("y"):
            raise StorageUnavailable("gone")
        get_file(key, local)

    monkeypatch.setattr(store, "get_file", second_fails)
    target = tmp_path / "cache" / "b"
    with pytest.raises(StorageUnavailable):
        store.get_folder("adapters/b/1", target)
    assert list(target.parent.iterdir()) == []


def test_deleting_takes_a_file_or_a_folder_and_forgives_nothing_there(store: Store, tmp_path: Path) -> None:
    store.put_folder(fill(tmp_path / "a", x="1", manifest_json="{}"), "adapters/b/1")
    store.put_bytes(b"x", "adapters/b/10/x")
    store.delete("adapters/b/1")
    store.delete("adapters/b/1")
    assert store.list() == ["adapters/b/10/x"]
    store.delete("adapters/b/10/x")
    assert store.list() == []


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/.", "a\0b"])
def test_a_key_cannot_leave_the_store(store: Store, key: str) -> None:
    for use in (store.get_bytes, store.delete, store.exists):
        with pytest.raises(ValueError, match="is no key"):
            use(key)


def test_a_full_address_or_a_path_is_fetched(store: Store, tmp_path: Path) -> None:
    store.put_bytes(b"rows", "files/file-1")
    assert store.uri("files/file-1") == f"file://{tmp_path}/store/files/file-1"
    fetch(store.uri("files/file-1"), tmp_path / "one")
    fetch(str(tmp_path / "store" / "files" / "file-1"), tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes() == b"rows"


def test_a_store_that_cannot_be_opened_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageUnavailable, match="cannot be opened"):
        open_store(str(tmp_path / "file" / "store"))
    with pytest.raises(StorageUnavailable, match="cannot be opened"):
        open_store("nosuch://bucket")


def test_any_fsspec_address_is_a_store() -> None:
    store = open_store("memory://onggi-storage-test/prefix")
    store.put_bytes(b"x", "adapters/b/1/manifest.json")
    assert store.list() == ["adapters/b/1/manifest.json"]
    store.delete("adapters/b/1")
    assert store.list() == []
