"""Processes of one machine: started in the background, found again later, stopped with all they started.

Standard library alone, so that ``make demo-stop`` works without an environment.
"""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import UserError

STOP_SECONDS = 20.0
MARK = "ONGGI_STATE_FOLDER"


@dataclass(frozen=True)
class Service:
    """One background process: ready as soon as ``health`` answers 200."""

    name: str
    command: list[str]
    port: int
    health: str
    port_variable: str
    environ: dict[str, str] = field(default_factory=dict)
    patience: float = 240.0


class Processes:
    """The services whose records and logs lie in one state folder."""

    def __init__(self, state: Path) -> None:
        self.state = state.resolve()
        self.records = self.state / "processes"
        self.logs = self.state / "logs"

    def start(self, service: Service) -> bool:
        """Start ``service`` unless it runs already; whether it was started.

        Raises:
            UserError: its port is taken by a program that is not ours.
        """
        if self._running(service.name):
            return False
        if _listening(service.port):
            raise UserError(
                f"port {service.port} for {service.name} is taken by another program: "
                f"stop that, or choose another with {service.port_variable}=..."
            )
        for folder in (self.records, self.logs):
            folder.mkdir(parents=True, exist_ok=True)
        with self.log(service.name).open("ab") as log:
            process = subprocess.Popen(
                service.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **service.environ, MARK: str(self.state)},
                start_new_session=True,
            )
        record = {"pid": process.pid, "started": _start_time(process.pid)}
        (self.records / f"{service.name}.json").write_text(json.dumps(record))
        return True

    def wait(self, service: Service) -> None:
        """Return once ``service`` answers.

        Raises:
            UserError: it ended, or did not answer in time; the sentence holds the end of its log.
        """
        deadline = time.monotonic() + service.patience
        while not _healthy(service.health):
            if not self._running(service.name):
                raise UserError(f"{service.name} ended while starting; {self._log_end(service.name)}")
            if time.monotonic() > deadline:
                raise UserError(
                    f"{service.name} did not answer at {service.health} within {service.patience:.0f} s; "
                    f"{self._log_end(service.name)}"
                )
            time.sleep(0.3)

    def log(self, name: str) -> Path:
        """Where the output of service ``name`` goes."""
        return self.logs / f"{name}.log"

    def stop(self) -> list[str]:
        """Stop every service and what it left running (fine-tunes among it); the names of those that ran."""
        stopped = [
            record.stem for record in sorted(self.records.glob("*.json")) if self._running(record.stem)
        ]
        groups = {self.pid(name) for name in stopped} | self._marked_groups()
        _end(groups)
        for record in self.records.glob("*.json"):
            record.unlink()
        return stopped

    def pid(self, name: str) -> int:
        """The recorded process of service ``name``, which leads a group of its own."""
        return int(json.loads((self.records / f"{name}.json").read_text())["pid"])

    def _running(self, name: str) -> bool:
        """Whether the recorded process lives; a process id that came round again has another start time."""
        record = self.records / f"{name}.json"
        if not record.exists():
            return False
        known = json.loads(record.read_text())
        return known["started"] is not None and _start_time(known["pid"]) == known["started"]

    def _marked_groups(self) -> set[int]:
        """Process groups that carry this folder's mark: what our services detached from themselves."""
        wanted = f"{MARK}={self.state}".encode()
        groups = set()
        for environ in Path("/proc").glob("[0-9]*/environ"):
            try:
                if wanted in environ.read_bytes().split(b"\0"):
                    groups.add(os.getpgid(int(environ.parent.name)))
            except (OSError, ValueError):
                continue  # it ended meanwhile, or is not ours to read
        return groups - {os.getpgrp()}

    def _log_end(self, name: str, lines: int = 15) -> str:
        log = self.log(name)
        tail = log.read_text(errors="replace").splitlines()[-lines:] if log.exists() else []
        return f"the end of {log}:\n" + "\n".join(tail)


def _end(groups: set[int]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        for group in groups:
            _signal(group, number)
        deadline = time.monotonic() + STOP_SECONDS
        while any(_signal(group, 0) for group in groups) and time.monotonic() < deadline:
            _reap()
            time.sleep(0.1)


def _signal(group: int, number: int) -> bool:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _reap() -> None:
    """Collect children of ours that ended: a zombie still counts as a member of its group."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def _start_time(pid: int) -> str | None:
    """Clock ticks from boot to the process's start (proc(5), field 22); None when it does not live."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - our own loopback address
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError, ValueError):
        return False
