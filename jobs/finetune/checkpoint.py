"""Checkpoints: everything that the next step depends on, whole or not there.

``checkpoints/step-00000050/`` holds ``state.safetensors`` (masters and moments), the run's books so far and
``manifest.json`` (step, identity, sha256). It is written under a temporary name, synced and renamed. A copy
in an object store gets a prefix of its own, with its manifest last.
"""

import hashlib
import json
import logging
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from common.storage import MANIFEST, StorageUnavailable, Store, fsync_folder
from jobs.finetune.files import write_durably
from jobs.finetune.inputs import Identity

TENSORS = "state.safetensors"
KEPT = 2

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class State:
    """Where a run stands, besides its tensors."""

    step: int
    """Steps done; the order of the rows follows from it and the seed."""
    identity: Identity
    threads: int
    """Threads of the CPU's sums, which decide their order."""
    base_validation_loss: float | None


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that is whole."""

    folder: Path
    state: State

    def tensors(self) -> dict[str, Any]:
        """The tensors by name, on the CPU."""
        from safetensors.torch import load_file

        tensors: dict[str, Any] = load_file(self.folder / TENSORS)
        return tensors

    def restore(self, books: Sequence[Path]) -> None:
        """Put back those of ``books`` that are missing, as on a pod whose disk is a new one."""
        for book in books:
            saved = self.folder / book.name
            if saved.exists() and not book.exists():
                shutil.copy(saved, book)


class Checkpoints:
    """The newest checkpoints of one run, in ``folder`` and, where given, below ``prefix`` in ``store``."""

    def __init__(self, folder: Path, store: Store | None = None, prefix: str = "") -> None:
        self._folder = folder
        self._store = store
        self._prefix = prefix

    def save(self, state: State, tensors: dict[str, Any], books: Sequence[Path] = ()) -> None:
        """Write a checkpoint with copies of ``books``, and remove all but the newest two."""
        from safetensors.torch import save

        data = save(tensors)
        record = asdict(state) | {"sha256": hashlib.sha256(data).hexdigest()}
        temporary = self._folder / f".new-{uuid.uuid4().hex}"
        temporary.mkdir(parents=True)
        write_durably(temporary / TENSORS, data)
        for book in books:
            if book.exists():
                write_durably(temporary / book.name, book.read_bytes())
        write_durably(temporary / MANIFEST, json.dumps(record, indent=2).encode())
        fsync_folder(temporary)
        final = self._folder / f"step-{state.step:08d}"
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
        fsync_folder(self._folder)
        for old in self._complete()[:-KEPT]:
            shutil.rmtree(old)
        self._copy(final)

    def latest(self) -> Checkpoint | None:
        """The newest whole checkpoint, fetched from the store when none is here; None without one.

        Raises:
            StorageUnavailable: the store that may hold one is away.
        """
        if not self._complete():
            self._fetch()
        for folder in reversed(self._complete()):
            checkpoint = _read(folder)
            if checkpoint:
                return checkpoint
            _log.warning("checkpoint %s is damaged and left out", folder)
        return None

    def sweep(self) -> None:
        """Remove what a killed process left half-written."""
        for path in self._folder.glob(".new-*"):
            shutil.rmtree(path)

    def clear(self) -> None:
        """Remove every checkpoint, here and in the store."""
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._store:
            self._store.delete(self._prefix)

    def _complete(self) -> list[Path]:
        return sorted(self._folder.glob("step-*"))

    def _copy(self, folder: Path) -> None:
        """Copy to the store; training goes on without it, for the checkpoint is safe here."""
        if not self._store:
            return
        try:
            self._store.put_folder(folder, f"{self._prefix}/{folder.name}-{uuid.uuid4().hex[:8]}")
            for old in self._copies()[:-KEPT]:
                self._store.delete(old)
        except StorageUnavailable as error:
            _log.warning("checkpoint %s stays here only: %s", folder.name, error)

    def _copies(self) -> list[str]:
        """The keys of complete copies, oldest first: those with a manifest."""
        if not self._store:
            return []
        keys = self._store.list(self._prefix)
        return [key.rpartition("/")[0] for key in keys if key.endswith(f"/{MANIFEST}")]

    def _fetch(self) -> None:
        copies = self._copies()
        if copies and self._store:
            name = copies[-1].rpartition("/")[2]
            self._store.get_folder(copies[-1], self._folder / name.rpartition("-")[0])


def _read(folder: Path) -> Checkpoint | None:
    try:
        record = json.loads((folder / MANIFEST).read_bytes())
        with (folder / TENSORS).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != record.pop("sha256"):
                return None
        record["identity"] = Identity(**record["identity"])
        return Checkpoint(folder, State(**record))
    except (OSError, ValueError, TypeError, KeyError):
        return None
