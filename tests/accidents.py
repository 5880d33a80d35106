"""Parts of the platform that are killed at random moments of a turn of the loop, and what must hold after."""

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from common.errors import UserError
from services.local import acts
from services.local.acts import Cron, Loop

KILLS = 3
BETWEEN = (5.0, 45.0)
"""Seconds from one kill to the next."""
PATIENCE = 180.0
"""Seconds that a caller goes on asking, as people do, while a part starts again."""
AWAY = (502, 503, 504)

Kill = Callable[[], None]
"""SIGKILLs one part, and sees that it is started again where nobody else does."""


class Patient(httpx.BaseTransport):
    """Asks again while nobody answers, but not what ``at_once`` is true of."""

    def __init__(
        self, transport: httpx.BaseTransport, at_once: Callable[[httpx.Request], bool] = lambda _: False
    ) -> None:
        self._transport, self._at_once = transport, at_once

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        deadline = time.monotonic() + (0 if self._at_once(request) else PATIENCE)
        while True:
            try:
                response = self._transport.handle_request(request)
                if response.status_code not in AWAY or time.monotonic() > deadline:
                    return response
                response.close()
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(1)

    def close(self) -> None:
        self._transport.close()


@dataclass
class Accidents:
    """Kills one part after the other, none twice; ``alive`` finds what there is to kill, by name."""

    alive: Callable[[], Mapping[str, Kill]]
    random: random.Random
    killed: list[str] = field(default_factory=list)

    @contextmanager
    def happening(self) -> Iterator[None]:
        """A block in which they happen."""
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
            alive = {part: kill for part, kill in self.alive().items() if part not in self.killed}
            if alive:
                part = self.random.choice(sorted(alive))
                self.killed.append(part)
                alive[part]()


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


def assert_nothing_came_of_it(turn: Loop) -> None:
    """The decision of a turn in which nothing was killed, every step once, and a whole served row."""
    assert turn.figures["promoted"]
    bot = turn.bot
    assert (bot["champion"], bot["candidate"], bot["share"], bot["generation"]) == (1, None, 0, 2)
    decisions = turn.api.get(f"/onggi/v1/bots/{acts.BOT}/decisions")["data"]
    assert [decision["action"] for decision in decisions] == ["promote", "candidate", "create"]
    jobs = turn.api.get("/v1/fine_tuning/jobs?limit=100")["data"]
    assert [job["status"] for job in jobs if job["suffix"] == acts.BOT] == ["succeeded"]
    versions = turn.api.get(f"/onggi/v1/versions?bot={acts.BOT}")["data"]
    assert [version["name"] for version in versions] == [f"{acts.BOT}@1"]
    retrains = turn.api.get(f"/onggi/v1/retrains?bot={acts.BOT}")["data"]
    assert [retrain["state"] for retrain in retrains] == ["started"]
