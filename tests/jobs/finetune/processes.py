"""Runs the command in processes of its own, forked from one that has imported torch already.

Importing torch, transformers and PEFT takes most of a short run; a fork server pays for it once. Each process
runs the command's own ``main`` with its own arguments and exit code, and can be killed like any other.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.ports import free_port


@dataclass(frozen=True)
class Ended:
    """How a process ended, and what it wrote."""

    code: int
    stdout: str
    stderr: str


class Job:
    """One running process."""

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
        return self.call(_finetune, folder, *flags, **environ)

    def start_together(self, count: int, folder: Path, *flags: str, **environ: str) -> list[Job]:
        """Run the command in ``count`` processes that train together, each with a disk of its own."""
        return self.call_together(_finetune, count, folder, *flags, **environ)

    def run(self, folder: Path, *flags: str, **environ: str) -> Ended:
        """Start the command and wait for its end."""
        return self.start(folder, *flags, **environ).wait()

    def run_together(self, count: int, folder: Path, *flags: str, **environ: str) -> list[Ended]:
        """Start the command in ``count`` processes and wait for their ends."""
        return [job.wait() for job in self.start_together(count, folder, *flags, **environ)]

    def call(self, main: Callable[[], None], folder: Path, *flags: str, **environ: str) -> Job:
        """Run ``main`` with ``flags`` as its command line; what it writes goes to files in ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        process = self._context.Process(target=_main, args=(main, folder, flags, environ))
        process.start()
        return Job(process, folder)

    def call_together(
        self, main: Callable[[], None], count: int, folder: Path, *flags: str, **environ: str
    ) -> list[Job]:
        """Run ``main`` in ``count`` processes, as pods of one each would; ``@`` in flags is the rank."""
        environ |= {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        environ |= {"LOCAL_RANK": "0", "GLOO_SOCKET_IFNAME": "lo"}
        return [
            self.call(
                main,
                folder / str(rank),
                *(flag.replace("@", str(rank)) for flag in flags),
                **environ,
                RANK=str(rank),
            )
            for rank in range(count)
        ]


def _finetune() -> None:
    from jobs.finetune.__main__ import main

    main()


def _main(main: Callable[[], None], folder: Path, flags: tuple[str, ...], environ: dict[str, str]) -> None:
    for number, name in ((1, "stdout"), (2, "stderr")):
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
    os.environ.update(environ)
    sys.argv = ["python -m jobs.finetune", *flags]
    from common import errors

    errors.run(main)
