"""One turn of the loop while its parts are killed at random moments: the same decision, and nothing twice."""

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from common.errors import UserError
from services.local import acts, demo, loop, state
from services.local.acts import Cron
from services.local.api import Api
from services.local.installation import Installation
from services.local.processes import Processes, Service
from tests.ports import free_port

KILLS = 3
BETWEEN = (5.0, 60.0)
"""Seconds from one kill to the next."""
PATIENCE = 180.0
"""Seconds that a caller goes on asking, as people do, while a part starts again."""
JOBS = ("jobs.retrain", "jobs.finetune", "jobs.evaluate", "jobs.promote")


class Patient(httpx.HTTPTransport):
    """Asks again while nobody answers."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                response = super().handle_request(request)
                if response.status_code != 503 or time.monotonic() > deadline:
                    return response
                response.close()
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(1)


@dataclass
class Accidents:
    """SIGKILLs one part after the other, none twice; services are started again, as Kubernetes would."""

    installation: Installation
    services: dict[str, Service]
    random: random.Random
    killed: list[str] = field(default_factory=list)

    @contextmanager
    def happening(self) -> Iterator[None]:
        over = threading.Event()
        thread = threading.Thread(target=self._go_on, args=(over,))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _go_on(self, over: threading.Event) -> None:
        while len(self.killed) < KILLS and not over.wait(self.random.uniform(*BETWEEN)):
            alive = [part for part in (*self.services, *self.jobs()) if part not in self.killed]
            part = self.random.choice(alive)
            self.killed.append(part)
            if part in self.services:
                self._kill_service(self.services[part])
            else:
                os.kill(self.jobs()[part], signal.SIGKILL)

    def jobs(self) -> dict[str, int]:
        """The loop's jobs that run now, each with its pid."""
        ours = f"CONTROL_URL={self.installation.gateway_url}".encode()
        found = {}
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


def again(cron: Cron) -> Cron:
    """A job that failed is run again at the cron's next time."""

    def run(name: str) -> None:
        for _ in range(10):
            try:
                return cron(name)
            except UserError:
                time.sleep(3)
        return cron(name)

    return run


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
    services = {one.name: one for one in loop.services(installation, demo.fetch_model(Console()))}
    accidents = Accidents(installation, services, random.Random(seed))
    url, key, transport = installation.gateway_url, installation.secrets.api_key, Patient()
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

    assert turn.figures["promoted"]
    bot = turn.bot
    assert (bot["champion"], bot["candidate"], bot["share"], bot["generation"]) == (1, None, 0, 2)
    decisions = turn.api.get(f"/onggi/v1/bots/{acts.BOT}/decisions")["data"]
    assert [decision["action"] for decision in decisions] == ["promote", "candidate", "create"]
    assert len(turn.api.get("/v1/fine_tuning/jobs")["data"]) == 1
    assert [version["name"] for version in turn.api.get("/onggi/v1/versions")["data"]] == [f"{acts.BOT}@1"]
    assert [retrain["state"] for retrain in turn.api.get("/onggi/v1/retrains")["data"]] == ["started"]
    assert accidents.jobs() == {}
