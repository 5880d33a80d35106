"""Runs the command in processes of its own, forked from one that has imported torch already.

Importing torch, transformers and PEFT takes most of a short run; a fork server pays for it once. Each process
runs the command's own ``main`` with its own arguments and exit code, and can be killed like any other.
"""

import multiprocessing
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ONE_THREAD = {"OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Ended:
    """How a process ended, and what it wrote."""

    code: int
    stdout: str
    stderr: str


class Job:
    """One running ``python -m jobs.finetune``."""

    def __init__(self, process: Any, folder: Path) -> None:
        self.process = process
        self._folder = folder

    def wait(self, timeout: float = 120) -> Ended:
        """Wait until it ended."""
        self.process.join(timeout)
        assert self.process.exitcode is not None, "the job did not end in time"
        output = [(self._folder / name).read_text() for name in ("stdout", "stderr")]
        return Ended(self.process.exitcode, *output)


class Jobs:
    """Starts jobs."""

    def __init__(self) -> None:
        os.environ |= {"OMP_NUM_THREADS": "1"}
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.jobs.finetune.preloaded"])

    def start(self, folder: Path, *flags: str, **environ: str) -> Job:
        """Run the command with ``flags``; what it writes goes to files in ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        process = self._context.Process(target=_main, args=(folder, flags, environ))
        process.start()
        return Job(process, folder)

    def run(self, folder: Path, *flags: str, **environ: str) -> Ended:
        """Start the command and wait for its end."""
        return self.start(folder, *flags, **environ).wait()


def _main(folder: Path, flags: tuple[str, ...], environ: dict[str, str]) -> None:
    for number, name in ((1, "stdout"), (2, "stderr")):
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
    os.environ.update(environ)
    sys.argv = ["python -m jobs.finetune", *flags]
    from common import errors
    from jobs.finetune.__main__ import main

    errors.run(main)
