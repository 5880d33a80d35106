"""One turn of the loop while its parts are killed at random moments: the same decision, and nothing twice."""

import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from common.errors import UserError
from services.local import acts, demo, loop, state
from services.local.api import Api
from services.local.installation import Installation
from services.local.processes import Processes, Service
from tests.accidents import Accidents, Kill, Patient, again, assert_nothing_came_of_it
from tests.ports import free_port

JOBS = ("jobs.retrain", "jobs.finetune", "jobs.evaluate", "jobs.promote")


@dataclass(frozen=True)
class LocalParts:
    """The parts of one machine; a service is started again, as Kubernetes would."""

    installation: Installation
    services: list[Service]

    def alive(self) -> dict[str, Kill]:
        """The services, and the loop's jobs that run now."""
        services = {one.name: partial(self._kill_service, one) for one in self.services}
        return {
            **services,
            **{job: partial(os.kill, pid, signal.SIGKILL) for job, pid in self.jobs().items()},
        }

    def jobs(self) -> dict[str, int]:
        """The loop's jobs that run now, each with its pid."""
        ours = f"CONTROL_URL={self.installation.gateway_url}".encode()
        found: dict[str, int] = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes().decode().split("\0")
                is_ours = ours in (process / "environ").read_bytes().split(b"\0")
            except OSError:
                continue  # it ended meanwhile, or is not ours to read
            found |= {job: int(process.name) for job in JOBS if is_ours and job in words}
        return found

    def _kill_service(self, service: Service) -> None:
        processes = Processes(self.installation.state)
        os.killpg(processes.pid(service.name), signal.SIGKILL)
        deadline = time.monotonic() + 30
        while True:
            try:
                if processes.start(service):
                    return
            except UserError:  # its port is still taken
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.2)


@pytest.fixture
def installation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, base_model: Path) -> Iterator[Installation]:
    for name in ("MLFLOW_PORT", "VLLM_PORT", "FASTAPI_PORT"):
        monkeypatch.setenv(name, str(free_port()))
    monkeypatch.setattr(state, "STATE", tmp_path)
    with loop.platform(Console()) as running:
        yield running


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(10))
def test_a_killed_part_changes_neither_what_is_decided_nor_how_often(
    seed: int, installation: Installation
) -> None:
    parts = LocalParts(installation, loop.services(installation, demo.fetch_model(Console())))
    accidents = Accidents(parts.alive, random.Random(seed))
    url, key, transport = (
        installation.gateway_url,
        installation.secrets.api_key,
        Patient(httpx.HTTPTransport()),
    )
    turn = acts.gather(
        lambda credential: Api(url, credential, transport),
        key,
        demo.BASE,
        again(loop.local_cron(installation)),
        Console(),
    )
    with accidents.happening():
        acts.learn(turn)
    print(f"killed {', '.join(accidents.killed)}; {turn.figures}")
    assert_nothing_came_of_it(turn)
    assert parts.jobs() == {}
