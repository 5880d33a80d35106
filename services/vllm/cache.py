"""Adapters on this machine's disk: fetched from the object store, checked, and kept by their content.

``<folder>/<sha256>/`` holds the files of one adapter, where the sha256 is its manifest's; a damaged or
altered folder is noticed whenever it is asked for, and fetched again. ``<folder>/<sha256>.lock`` is held
(``flock``) by every server that has handed the folder to its vLLM: vLLM reads it again whenever it has put
the adapter out of memory, and a missing file would end its engine. So only folders that nobody holds go.
"""

import fcntl
import os
import shutil
import threading
import time
import uuid
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from common import logging
from common.adapters import AdapterError, AdapterManifest, check_fit, read_manifest, verify
from common.names import VersionName
from common.storage import MANIFEST, Store, open_store

STALE_SECONDS = 24 * 3600.0
_FETCHING = ".fetching-"


class AdapterCache:
    """Adapters of the store at ``store_url`` that fit one base model, on disk below ``folder``.

    Calls block and may come from several threads.
    """

    def __init__(
        self, folder: Path, *, store_url: str, base: str, revision: str | None, max_rank: int, keep: int
    ) -> None:
        self._folder = folder
        self._store_url = store_url
        self._base = base
        self._revision = revision
        self._max_rank = max_rank
        self._keep = keep
        self._locks: dict[str, int] = {}
        self._guard = threading.Lock()

    def fetch(self, name: VersionName) -> Path:
        """The folder with the checked files of version ``name``, which from now on stays.

        Raises:
            FileNotFoundError: the store has no such version.
            AdapterError: it is not what was registered, or this server cannot serve it.
            StorageUnavailable: the store is away.
        """
        manifest = read_manifest(self._store.get_bytes(f"{name.folder}/{MANIFEST}"), name)
        check_fit(manifest, base=self._base, revision=self._revision, max_rank=self._max_rank)
        folder = self._folder / manifest.sha256
        self._hold(folder)
        if not _intact(folder, manifest):
            self._download(name, manifest, folder)
        os.utime(folder)
        self._prune()
        return folder

    @cached_property
    def _store(self) -> Store:
        return open_store(self._store_url)

    def _hold(self, folder: Path) -> None:
        with self._guard:
            if folder.name not in self._locks:
                self._locks[folder.name] = _lock(folder, fcntl.LOCK_SH)

    def _download(self, name: VersionName, manifest: AdapterManifest, folder: Path) -> None:
        temporary = self._folder / f"{_FETCHING}{uuid.uuid4().hex}"
        temporary.mkdir(parents=True)
        try:
            for file in manifest.files:
                with suppress(FileNotFoundError):  # verify says which one is missing
                    self._store.get_file(f"{name.folder}/{file}", temporary / file)
            verify(temporary, manifest)
            with self._guard:
                _swap(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _prune(self) -> None:
        oldest_first = sorted((path for path in self._folder.iterdir() if path.is_dir()), key=_modified)
        fetching = [path for path in oldest_first if path.name.startswith(_FETCHING)]
        adapters = [path for path in oldest_first if path not in fetching]
        for folder in adapters[: -self._keep]:
            _remove_unless_held(folder)
        for folder in fetching:
            if _modified(folder) < time.time() - STALE_SECONDS:  # whoever fetched it was killed
                shutil.rmtree(folder, ignore_errors=True)


def _intact(folder: Path, manifest: AdapterManifest) -> bool:
    if not folder.is_dir():
        return False
    try:
        verify(folder, manifest)
    except AdapterError as error:
        logging.get("system").warning("cached adapter is damaged and fetched again", reason=str(error))
        return False
    return True


def _swap(new: Path, folder: Path) -> None:
    """Put ``new`` in the place of ``folder``, where another thread may just have put the same content."""
    if folder.exists():
        folder.rename(new.with_suffix(".old"))
    new.rename(folder)
    shutil.rmtree(new.with_suffix(".old"), ignore_errors=True)


def _remove_unless_held(folder: Path) -> None:
    try:
        descriptor = _lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    try:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)


def _lock(folder: Path, kind: int) -> int:
    folder.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, kind)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # another server has removed it
        return time.time()
