"""Run programs and wait for things, with sentences instead of tracebacks."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from common.errors import UserError
from tests.cluster.place import Place


def run(command: list[str], text: str | None = None, **environ: str) -> str:
    """The output of ``command``, which gets ``text`` on its input.

    Raises:
        UserError: it failed; the sentence holds what it said.
    """
    done = subprocess.run(
        command, input=text, env={**os.environ, **environ}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-2000:]
        raise UserError(f"`{' '.join(command)}` failed: {said}")
    return done.stdout


def succeeds(command: list[str], **environ: str) -> bool:
    """Whether ``command`` exits with 0."""
    return (
        subprocess.run(command, env={**os.environ, **environ}, capture_output=True, check=False).returncode
        == 0
    )


def kubectl(place: Place, *arguments: str, text: str | None = None) -> str:
    """Run the cluster's kubectl as its administrator."""
    return run([str(place.bin / "kubectl"), *arguments], text, KUBECONFIG=str(place.kubeconfig))


def until(condition: Callable[[], bool], patience: float, what: str, log: Path | None = None) -> None:
    """Return once ``condition`` holds, which is looked at twice a second.

    Raises:
        UserError: ``what`` is still missing after ``patience`` seconds; the sentence holds the log's end.
    """
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise UserError(f"{what} after {patience:.0f} s{_end(log)}")
        time.sleep(0.5)


def _end(log: Path | None, lines: int = 15) -> str:
    if log is None or not log.exists():
        return ""
    return f"; the end of {log}:\n" + "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
