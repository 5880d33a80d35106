"""The cluster's processes on this machine, kept as `services.local` keeps those of the demo."""

import json
import os
import signal
from collections.abc import Callable

from services.local.processes import Processes, Service
from tests.cluster.commands import until
from tests.cluster.place import Place

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Daemons(Processes):
    """Processes without a port or page of their own to ask: a condition says when each is there."""

    def __init__(self, place: Place) -> None:
        super().__init__(place.state)
        self.place = place

    def run(self, name: str, *command: str, **environ: str) -> None:
        """Start ``command`` as ``name`` unless it runs."""
        environ = {"PATH": f"{self.place.bin}:{SYSTEM_PATH}", **environ}
        # Port 0: what must be free is looked at once, before anything is started.
        self.start(Service(name, list(command), port=0, health="", port_variable="", environ=environ))

    def ready(self, name: str, condition: Callable[[], bool], patience: float = 60) -> None:
        """Return once ``condition`` holds for the process ``name``.

        Raises:
            UserError: it ended or took too long; the sentence holds the end of its log.
        """
        until(
            lambda: condition() or not self._running(name), patience, f"{name} is not ready", self.log(name)
        )
        until(condition, 0, f"{name} ended while starting", self.log(name))

    def running(self) -> dict[str, bool]:
        """Every process that was started, and whether it lives."""
        return {record.stem: self._running(record.stem) for record in sorted(self.records.glob("*.json"))}

    def end(self, name: str) -> None:
        """Kill one process, if it lives."""
        if self._running(name):
            pid = int(json.loads((self.records / f"{name}.json").read_text())["pid"])
            os.kill(pid, signal.SIGKILL)
