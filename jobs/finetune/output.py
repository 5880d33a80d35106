"""The output folder: what a run leaves in it, and the lock that keeps a second process out."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.errors import UserError


class Output:
    """The output folder and the names in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.adapter = folder / "adapter"
        self.checkpoints = folder / "checkpoints"
        self.metrics = folder / "metrics.jsonl"
        self.result = folder / "result.json"
        self.run = folder / "mlflow-run"
        self.books = (self.metrics, self.run)
        """What a run must not lose when it goes on elsewhere, besides its checkpoint's tensors."""

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second process out; the lock ends with the process, however it ends."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"another process trains in {self.folder}: wait for it, or stop it") from None
            yield

    def clear(self) -> None:
        """Remove what an earlier run left, and nothing else."""
        shutil.rmtree(self.adapter, ignore_errors=True)
        for path in (self.metrics, self.result, self.run):
            path.unlink(missing_ok=True)
