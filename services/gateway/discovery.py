"""Which replicas there are, and how each of them is: DNS is asked every second, and each replica."""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from typing import Literal

import aiohttp

from common import logging
from services.gateway.away import describe_connection
from services.gateway.endpoint import Endpoint, Resolve, health_url
from services.gateway.replica import Model, Replica
from services.gateway.replicas import Replicas

RESOLVE_SECONDS = 1.0
RESOLVE_TIMEOUT_SECONDS = 5.0
PROBE_SECONDS = 1.0
PROBE_TIMEOUT_SECONDS = 5.0
SILENT_PROBES = 3  # one after another: a busy server may be late once
MODELS_SECONDS = 5.0
HOSTED_SECONDS = 60.0
FIRST_SECONDS = 2.0  # how long a start waits for the first answers


class Discovery:
    """Keeps ``replicas`` as DNS and their own answers have them; ``on_well`` is told of each that answers."""

    def __init__(
        self,
        endpoint: Endpoint,
        replicas: Replicas,
        session: aiohttp.ClientSession,
        resolve: Resolve,
        on_well: Callable[[Replica], None],
    ) -> None:
        self._endpoint = endpoint
        self._replicas = replicas
        self._session = session
        self._resolve = resolve
        self._on_well = on_well
        self._watching: dict[Replica, asyncio.Task[None]] = {}
        self._probes: dict[Replica, _Probe] = {}
        self._resolving: asyncio.Task[None] | None = None
        self._answers = self._has_addresses = True
        self._log = logging.get("system")

    async def start(self) -> None:
        """Find the replicas and hear of each once, if that takes no longer than a moment; then go on."""
        if self._endpoint.is_name:
            await self._look_up()
            self._resolving = asyncio.create_task(self._keep_looking_up(), name="resolve")
        else:
            self._join(Replica(self._endpoint.host, self._endpoint.base_url, takes_any=True))
        heard = [asyncio.create_task(probe.first.wait()) for probe in self._probes.values()]
        if heard:
            await asyncio.wait(heard, timeout=FIRST_SECONDS)
        for task in heard:
            task.cancel()

    async def stop(self) -> None:
        """Stop asking."""
        tasks = [*self._watching.values(), *([self._resolving] if self._resolving else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for replica in self._replicas:
            self._replicas.remove(replica)

    async def ask_models(self) -> None:
        """Ask every replica now what it serves."""
        await asyncio.gather(*(probe.ask(models=True) for probe in self._probes.values()))

    async def _keep_looking_up(self) -> None:
        while True:
            await asyncio.sleep(RESOLVE_SECONDS)
            await self._look_up()

    async def _look_up(self) -> None:
        """Take what DNS says now; while it does not answer, what it said last stands."""
        try:
            async with asyncio.timeout(RESOLVE_TIMEOUT_SECONDS):
                addresses = await self._resolve(self._endpoint.host)
        except (OSError, ValueError) as error:  # ValueError: no name that DNS can be asked for
            if self._answers:
                self._log.warning(
                    "DNS does not answer", host=self._endpoint.host, reason=describe_connection(error)
                )
            self._answers = False
            return
        self._answers = True
        if not addresses and self._has_addresses:
            self._log.warning("no replica behind the name", host=self._endpoint.host)
        self._has_addresses = bool(addresses)
        self._take(addresses)

    def _take(self, addresses: Sequence[str]) -> None:
        for replica in self._replicas:
            if replica.name not in addresses:
                self._leave(replica)
        headers = {"Host": self._endpoint.host_header}
        for address in addresses:
            if address not in self._replicas:
                self._join(Replica(address, self._endpoint.at(address), headers, takes_any=False))

    def _join(self, replica: Replica) -> None:
        self._log.info("replica found", replica=replica.name)
        self._replicas.add(replica)
        probe = _Probe(replica, self._replicas, self._session, self._endpoint, self._on_well)
        self._probes[replica] = probe
        self._watching[replica] = asyncio.create_task(probe.keep_asking(), name=f"probe {replica.name}")

    def _leave(self, replica: Replica) -> None:
        self._log.info("replica left", replica=replica.name, in_flight=replica.in_flight)
        self._replicas.remove(replica)
        del self._probes[replica]
        self._watching.pop(replica).cancel()


class _Probe:
    """Asks one replica how it is and what it serves; ``first`` is set once something was heard."""

    def __init__(
        self,
        replica: Replica,
        replicas: Replicas,
        session: aiohttp.ClientSession,
        endpoint: Endpoint,
        on_well: Callable[[Replica], None],
    ) -> None:
        self._replica = replica
        self._replicas = replicas
        self._session = session
        self._endpoint = endpoint
        self._on_well = on_well
        self._late = 0
        self._models_at = 0.0
        self._log = logging.get("system")
        self.first = asyncio.Event()

    async def keep_asking(self) -> None:
        """For ever; a replica whose breaker is open, after its pause."""
        breaker = self._replica.breaker
        while True:
            try:
                await self.ask()
            except Exception:  # whatever it answered, the next time comes
                self._log.exception("probe failed", replica=self._replica.name)
            self.first.set()
            await asyncio.sleep(self._pause())
            if breaker.is_open:
                await asyncio.sleep(breaker.until - time.monotonic())

    async def ask(self, *, models: bool = False) -> None:
        """Ask once, for the models too where ``models`` says so or they are due."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_SECONDS):
                if models or time.monotonic() >= self._models_at:
                    await self._take_models()
                if self._is_vllm and not await self._is_well():
                    self._is("draining")
                    return
        except aiohttp.ClientError as error:
            self._failed(error)
        except TimeoutError:
            self._was_late()
        else:
            self._answered()

    def _pause(self) -> float:
        if self._is_vllm or not self._replica.is_up:
            return PROBE_SECONDS
        return HOSTED_SECONDS if self._endpoint.is_hosted else MODELS_SECONDS

    @property
    def _is_vllm(self) -> bool:
        """Whether /health may be asked: there are servers that ask all of their models for that."""
        return any(model.get("owned_by") == "vllm" for model in self._replica.models or ())

    async def _is_well(self) -> bool:
        url = health_url(self._replica.base_url)
        async with self._session.get(url, headers=self._replica.headers) as answer:
            return answer.status < 500

    async def _take_models(self) -> None:
        url = f"{self._replica.base_url}/models"
        async with self._session.get(url, headers=self._replica.headers) as answer:
            models = _bases(await answer.read()) if answer.status == 200 else None
        self._models_at = time.monotonic() + MODELS_SECONDS
        if models is None and self._replica.models is None and answer.status < 500:
            models = []  # It answers, and has no such list.
        if models is not None and models != self._replica.models:
            self._replica.models = models
            self._replicas.changed()

    def _answered(self) -> None:
        self._late = 0
        if self._replica.breaker.probed():
            self._replica.forget()  # It was away: what answers now may be another process.
            self._replicas.changed()
        self._is("well")
        self._on_well(self._replica)

    def _was_late(self) -> None:
        self._late += 1
        if self._late < SILENT_PROBES:
            return
        self._is("silent")
        if self._replicas.is_elsewhere(self._replica):
            self._replica.waiting.end()

    def _failed(self, error: Exception) -> None:
        self._models_at = 0.0
        if self._replica.breaker.failed(time.monotonic()):
            self._log.warning("replica away", replica=self._replica.name, reason=describe_connection(error))
            self._replicas.changed()

    def _is(self, health: Literal["well", "draining", "silent"]) -> None:
        if self._replica.health != health:
            self._log.info("replica is", replica=self._replica.name, health=health)
            self._replica.health = health
            self._replicas.changed()


def _bases(listed: bytes) -> list[Model] | None:
    """The base models of a list (its adapters are versions, which the database knows); None if it is none."""
    try:
        models = json.loads(listed)["data"]
        return [model for model in models if isinstance(model, dict) and not model.get("parent")]
    except (ValueError, LookupError, TypeError):
        return None
