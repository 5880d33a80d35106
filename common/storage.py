"""Files that services and jobs share, in one object store: a folder, ``s3://bucket/prefix`` or other fsspec.

Layout (keys): ``files/<file-id>``, ``adapters/<bot>/<n>/...``, ``results/<job>/...`` and, while a job runs
on a cluster, ``jobs/<job>/...`` (its rows, and ``checkpoints/<run>/...``).
A single file appears whole or not at all: a folder store writes a temporary name, fsyncs and renames, and S3
makes an object visible when its upload ends. A set of files on S3 cannot be renamed, so whatever consists of
several files is written under a prefix of its own with its ``manifest.json`` last, and a reader believes the
manifest only.

S3's address and keys are botocore's own settings: ``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``,
``AWS_SECRET_ACCESS_KEY``, ``AWS_REGION``.
"""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal, cast

MANIFEST = "manifest.json"

# A store that is away must be noticed in seconds, not in botocore's minutes.
S3_OPTIONS: dict[str, Any] = {
    "use_listings_cache": False,
    "config_kwargs": {"connect_timeout": 3, "read_timeout": 60, "retries": {"max_attempts": 2}},
}


class StorageUnavailable(OSError):
    """The store cannot be reached or refuses; the sentence names it. Worth a retry, unlike a missing key."""


class Store:
    """One object store. Missing keys raise ``FileNotFoundError``, all other trouble ``StorageUnavailable``.

    Calls block; in an event loop they belong in a thread.
    """

    def __init__(self, filesystem: Any, root: str, url: str) -> None:
        self._fs = filesystem
        self._root = root.rstrip("/")
        self._local = _is_local(filesystem)
        self.url = url

    def put_file(self, local: Path, key: str) -> None:
        """Copy the file ``local`` to ``key``, replacing what is there."""
        with local.open("rb") as source, self.open(key, "wb") as target:
            shutil.copyfileobj(source, target, 8 << 20)

    def put_bytes(self, data: bytes, key: str) -> None:
        """Write ``data`` to ``key``, replacing what is there."""
        with self.open(key, "wb") as target:
            target.write(data)

    def get_file(self, key: str, local: Path) -> None:
        """Copy ``key`` to the file ``local``, which appears whole or not at all."""
        with self.open(key, "rb") as source, _write_local(local) as target:
            shutil.copyfileobj(source, target, 8 << 20)

    def get_bytes(self, key: str) -> bytes:
        """What ``key`` holds."""
        with self.open(key, "rb") as source:
            return source.read()

    def put_folder(self, local: Path, key: str) -> None:
        """Make ``key`` hold the files below ``local``: in a folder in one step, else the manifest last."""
        if self._local:
            self._replace_folder(local, Path(self._path(key)))
            return
        files = sorted(path for path in local.rglob("*") if path.is_file())
        for path in sorted(files, key=lambda path: path.name == MANIFEST):
            self.put_file(path, f"{key}/{path.relative_to(local).as_posix()}")

    def get_folder(self, key: str, local: Path) -> None:
        """Copy every file below ``key`` to the folder ``local``, which appears whole or not at all.

        Raises:
            FileExistsError: ``local`` is there already.
            FileNotFoundError: nothing lies below ``key``.
        """
        if local.exists():
            raise FileExistsError(f"{local} exists already")
        keys = self.list(key)
        if not keys:
            raise FileNotFoundError(f"nothing lies at {self.uri(key)}")
        temporary = _beside(local)
        try:
            for name in keys:
                self.get_file(name, temporary / PurePosixPath(name).relative_to(key))
            temporary.rename(local)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    @contextmanager
    def open(self, key: str, mode: Literal["rb", "wb"]) -> Iterator[IO[bytes]]:
        """A file object for ``key``; what is written appears on leaving the block, unless it raised."""
        path, uri, writing = self._path(key), self.uri(key), mode == "wb"
        with ExitStack() as stack:
            with _translated(uri, writing):
                local = self._local and writing
                opened = _write_local(Path(path)) if local else _open_remote(self._fs, path, mode)
                file = stack.enter_context(opened)
            yield cast(IO[bytes], _Translating(file, uri, writing))
            with _translated(uri, writing):
                stack.close()

    def exists(self, key: str) -> bool:
        """Whether ``key`` is a file, or has files below it."""
        path = self._path(key)
        with _translated(self.uri(key)):
            there = bool(self._fs.exists(path)) and (self._local or bool(self._fs.isfile(path)))
        return there or (not self._local and bool(self.list(key)))

    def list(self, prefix: str = "") -> list[str]:
        """The keys of all files at or below the folder ``prefix``, sorted; empty when there are none."""
        path = self._path(prefix) if prefix else self._present_root()
        with _translated(self.uri(prefix)):
            found = self._fs.find(path, detail=True)
            # SeaweedFS keeps a folder whose files are gone, and s3fs takes it for one of them.
            names = [name for name, info in found.items() if info["type"] == "file"]
        keys = [name[len(self._root) :].lstrip("/") for name in names]
        return sorted(key for key in keys if not any(_is_temporary(part) for part in key.split("/")))

    def size(self, key: str) -> int:
        """Bytes of the file ``key``."""
        path = self._path(key)
        with _translated(self.uri(key)):
            return int(self._fs.info(path)["size"])

    def delete(self, key: str) -> None:
        """Remove the file ``key`` or everything below it, its manifest first; nothing there is no error."""
        path = self._path(key)
        for name in sorted(self.list(key), key=lambda name: PurePosixPath(name).name != MANIFEST):
            with _translated(self.uri(name)):
                self._fs.rm_file(self._path(name))
        if self._local:
            shutil.rmtree(path, ignore_errors=True)

    def uri(self, key: str = "") -> str:
        """The full address of ``key``, which ``fetch`` and MLflow read."""
        return str(self._fs.unstrip_protocol(f"{self._root}/{key}".rstrip("/")))

    def _path(self, key: str) -> str:
        parts = key.split("/")
        if "\0" in key or any(part in ("", ".", "..") or _is_temporary(part) for part in parts):
            raise ValueError(f"{key!r} is no key: use names joined by single slashes")
        return f"{self._present_root()}/{key}"

    def _present_root(self) -> str:
        if self._local and not Path(self._root).is_dir():
            raise StorageUnavailable(f"the store {self.url} is away: its folder {self._root} is not there")
        return self._root

    def _replace_folder(self, local: Path, target: Path) -> None:
        with _translated(str(target)):
            temporary, old = _beside(target), _beside(target)
            try:
                shutil.copytree(local, temporary, copy_function=_copy_durably)
                if target.exists():
                    target.rename(old)
                temporary.rename(target)
                fsync_folder(target.parent)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
                shutil.rmtree(old, ignore_errors=True)


def open_store(url: str) -> Store:
    """The store at ``url``: a folder, which is made if need be, or an fsspec URL such as ``s3://bucket/prefix``.

    Raises:
        StorageUnavailable: the folder cannot be made, or fsspec does not know the URL's kind.
    """
    from fsspec.core import url_to_fs

    options = S3_OPTIONS if url.startswith(("s3://", "s3a://")) else {}
    try:
        filesystem, root = url_to_fs(url, **options)
        if _is_local(filesystem):
            Path(root).mkdir(parents=True, exist_ok=True)
    except (OSError, ImportError, ValueError) as error:
        raise StorageUnavailable(f"the store {url} cannot be opened: {error}") from error
    return Store(filesystem, root, url)


def fetch(uri: str, local: Path) -> None:
    """Copy one file from a path or a full address (as ``Store.uri`` gives it) to the file ``local``."""
    folder, _, name = uri.rpartition("/")
    open_store(folder or ".").get_file(name, local)


def fsync_folder(folder: Path) -> None:
    """Make renames inside ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_TEMPORARY = ".onggi-"


def _beside(path: Path) -> Path:
    """A temporary name in ``path``'s own folder, so that a rename stays within one file system."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f"{_TEMPORARY}{uuid.uuid4().hex}")


@contextmanager
def _write_local(path: Path) -> Iterator[IO[bytes]]:
    temporary = _beside(path)
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        fsync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _open_remote(filesystem: Any, path: str, mode: str) -> Iterator[IO[bytes]]:
    from fsspec.spec import AbstractBufferedFile

    file = filesystem.open(path, mode)
    try:
        yield file
    except BaseException:
        if mode == "wb" and isinstance(file, AbstractBufferedFile):
            file.discard()
            file.closed = True  # or closing it would upload what it has
        raise
    finally:
        file.close()


def _copy_durably(source: str, target: str) -> None:
    with open(source, "rb") as read, open(target, "wb") as write:
        shutil.copyfileobj(read, write, 8 << 20)
        write.flush()
        os.fsync(write.fileno())


def _is_temporary(name: str) -> bool:
    return name.startswith(_TEMPORARY)


def _is_local(filesystem: Any) -> bool:
    from fsspec.implementations.local import LocalFileSystem

    return isinstance(filesystem, LocalFileSystem)


@contextmanager
def _translated(uri: str, writing: bool = False) -> Iterator[None]:
    """Turn the many exceptions of fsspec's implementations into the two that callers tell apart.

    What is not found on writing is the bucket.
    """
    try:
        yield
    except StorageUnavailable:
        raise
    except Exception as error:
        if isinstance(error, FileNotFoundError | IsADirectoryError) and not writing:
            raise FileNotFoundError(f"nothing lies at {uri}") from error
        raise StorageUnavailable(f"the store does not answer for {uri}: {error}") from error


class _Translating:
    """A file whose reads and writes raise the store's two exceptions."""

    def __init__(self, file: Any, uri: str, writing: bool) -> None:
        self._file = file
        self._uri = uri
        self._writing = writing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __iter__(self) -> Iterator[bytes]:
        with _translated(self._uri):
            yield from self._file

    def read(self, size: int = -1) -> bytes:
        with _translated(self._uri):
            data: bytes = self._file.read(size)
            return data

    def write(self, data: bytes) -> int:
        with _translated(self._uri, self._writing):
            return int(self._file.write(data))
