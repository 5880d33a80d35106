"""A job's processes, found again by what cannot be mistaken: pid with start time, and a mark they inherit.

A pid alone may come round again, and a process group's number too; both could then be somebody else's.
"""

import contextlib
import os
import signal
import time
from pathlib import Path

MARK = "ONGGI_JOB_FOLDER"

Process = tuple[int, str]
"""A pid and its start time in clock ticks since the machine started (proc(5), field 22)."""


def identify(pid: int) -> Process | None:
    """The live process ``pid``; None when there is none, or only its exit status is left."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field, the command's name in parentheses, may hold spaces and parentheses itself.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else (pid, fields[19])


def alive(process: Process | None) -> bool:
    """Whether exactly this process lives."""
    return process is not None and identify(process[0]) == process


def marked(folder: Path) -> list[int]:
    """The live processes whose environment names ``folder`` as their job's: a supervisor and all below it."""
    wanted = f"{MARK}={folder}".encode()
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # it ended meanwhile, or is not ours to read
            if wanted in environ.read_bytes().split(b"\0"):
                found.append(int(environ.parent.name))
    return found


def kill_marked(folder: Path, grace_seconds: float = 10.0) -> None:
    """End every process of the job in ``folder``: asked first, then killed. Returns once they are gone."""
    for number, patience in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, 5.0)):
        deadline = time.monotonic() + patience
        for pid in marked(folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        while marked(folder) and time.monotonic() < deadline:
            time.sleep(0.05)
