"""Several FakeUpstreams behind one name, whose addresses a test gives and takes away."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from common import metrics
from tests.ports import free_port
from tests.services.gateway.conftest import House
from tests.services.gateway.fake_upstream import DONE, FakeUpstream, serving

NAME = "replicas.test"


@dataclass
class FakeNames:
    """Stands where the cluster's DNS would: ``addresses`` are what ``NAME`` resolves to."""

    addresses: list[str] = field(default_factory=list)
    away: bool = False

    async def resolve(self, host: str) -> Sequence[str]:
        assert host == NAME
        if self.away:
            raise OSError("DNS is away")
        return list(self.addresses)


@dataclass
class Fleet:
    """``replicas`` are up, and known by name while their address is in ``names``."""

    names: FakeNames
    replicas: list[FakeUpstream]
    stack: AsyncExitStack
    port: int

    @property
    def url(self) -> str:
        return f"http://{NAME}:{self.port}/v1"

    async def start(self, host: str, **options: Any) -> FakeUpstream:
        """Another replica, which the name does not lead to yet."""
        fake = FakeUpstream(host=host, port=self.port, **options)
        await self.stack.enter_async_context(serving(fake))
        self.replicas.append(fake)
        return fake

    async def join(self, host: str, **options: Any) -> FakeUpstream:
        """Another replica."""
        fake = await self.start(host, **options)
        self.names.addresses.append(host)
        return fake

    def asked(self) -> list[int]:
        """How many completions each replica was asked for."""
        return [len(fake.bodies) for fake in self.replicas]


@asynccontextmanager
async def fleet_of(count: int) -> AsyncIterator[Fleet]:
    """``count`` replicas at 127.0.0.1 and the following addresses, on one port."""
    async with AsyncExitStack() as stack:
        fleet = Fleet(FakeNames(), [], stack, free_port())
        for number in range(count):
            await fleet.join(f"127.0.0.{number + 1}")
        yield fleet


@dataclass
class Outcome:
    """How streamed requests ended: whole, refused before an answer, or broken in it."""

    whole: int = 0
    refused: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


@asynccontextmanager
async def constant_load(house: House, workers: int = 6, model: str = "support-bot") -> AsyncIterator[Outcome]:
    """Streamed requests one after the other, by each of ``workers``, until the block ends and they have."""
    outcome, goes_on = Outcome(), asyncio.Event()
    goes_on.set()
    headers = {"authorization": f"Bearer {house.key}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        work = [
            asyncio.create_task(_stream(session, house, model, worker, outcome, goes_on))
            for worker in range(workers)
        ]
        try:
            yield outcome
        finally:
            goes_on.clear()
            await asyncio.gather(*work)


async def _stream(
    session: aiohttp.ClientSession,
    house: House,
    model: str,
    worker: int,
    outcome: Outcome,
    goes_on: asyncio.Event,
) -> None:
    number = 0
    while goes_on.is_set():
        number += 1
        body = {
            "model": model,
            "messages": [{"role": "user", "content": "Hello"}],
            "stream": True,
            "metadata": {"conversation_id": f"{worker}-{number}"},
        }
        async with session.post(f"{house.url}/v1/chat/completions", json=body) as answer:
            text = await answer.text()
            if answer.status != 200:
                outcome.refused.append(text)
            elif text.endswith(DONE.decode()):
                outcome.whole += 1
            else:
                outcome.broken.append(text)


async def until(check: Callable[[], Any], seconds: float = 8.0) -> None:
    """Wait until ``check`` is true."""
    async with asyncio.timeout(seconds):
        while not check():  # noqa: ASYNC110 - it is other tasks that make it true
            await asyncio.sleep(0.01)


async def gauge_is(name: str, value: float | None, **labels: str) -> None:
    """Wait until the metric has this value; None while it has no such series."""
    await until(lambda: sample(name, **labels) == value)


def sample(name: str, **labels: str) -> float | None:
    """A metric's value now."""
    return metrics.REGISTRY.get_sample_value(name, labels)
