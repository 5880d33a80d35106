"""The model server behind the gateway: replicas of vLLM, or any OpenAI-compatible endpoint.

Everything that the gateway asks of it goes through one ``Upstream``; nothing else knows an address.
"""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import aiohttp

from common import logging
from common.openai_errors import OpenAIError, unavailable
from services.gateway import metrics
from services.gateway.discovery import Discovery
from services.gateway.endpoint import Endpoint, Resolve, resolve
from services.gateway.events import Event
from services.gateway.exchange import ElsewhereError, Exchange, request_headers
from services.gateway.replica import Model, Replica, Wanted
from services.gateway.replicas import Replicas
from services.gateway.warmup import State, Warmup

CONNECT_SECONDS = 5.0
CONNECT_NEAR_SECONDS = 2.0  # to a replica's own address: there is another one to ask
# Between two bytes: a request may wait long in vLLM's queue, but not for a host that vanished.
IDLE_SECONDS = 600.0
# vLLM's server closes idle connections after 5 s: let go of ours before it does.
KEEP_ALIVE_SECONDS = 4.0
# How many replicas may take a request and not answer it: it may be the request that they fail by.
ATTEMPTS = 3
LONGEST_RETRY_AFTER = 3600


class Upstream:
    """Answers from the replicas behind ``base_url``, over one pool of connections.

    ``free_at`` is when the card that is in use for training is expected back, where that is known.
    """

    def __init__(
        self, base_url: str, api_key: str = "", *, retry_after: float = 5, resolve: Resolve = resolve
    ) -> None:
        self._endpoint = Endpoint(base_url)
        self._resolve = resolve
        self._retry_after = retry_after
        self._headers = {"Accept-Encoding": "identity"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._replicas = Replicas()
        self._models_lock = asyncio.Lock()
        self._log = logging.get("system")
        self.free_at: datetime | None = None

    async def start(self, on_change: Callable[[], None]) -> None:
        """Find the replicas; ``on_change`` is called when a replica has loaded a version, or could not."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS),
            timeout=aiohttp.ClientTimeout(
                total=None,
                sock_connect=CONNECT_NEAR_SECONDS if self._endpoint.is_name else CONNECT_SECONDS,
                sock_read=IDLE_SECONDS,
            ),
            headers=self._headers,
        )
        self._warmup = Warmup(self._replicas, self._session, on_change)
        self._discovery = Discovery(
            self._endpoint, self._replicas, self._session, self._resolve, self._warmup.look_at
        )
        await self._discovery.start()

    async def close(self) -> None:
        """Close every connection."""
        await self._warmup.stop()
        await self._discovery.stop()
        await self._session.close()

    def serve(self, versions: Mapping[str, str]) -> None:
        """Load ``versions``, each with its base model, wherever they can be, and keep them loaded."""
        self._warmup.serve(versions)

    def state(self, version: str, base: str) -> State:
        """Whether the replicas can answer as ``version``."""
        return self._warmup.state(version, base)

    async def complete(self, path: str, body: dict[str, Any], wanted: Wanted) -> bytes:
        """Ask for a whole answer.

        Raises:
            OpenAIError: the server is away or refused, in words for the caller.
        """
        exchange = await self._ask(path, body, wanted)
        exchange.close()
        return exchange.answer

    @asynccontextmanager
    async def stream(
        self, path: str, body: dict[str, Any], wanted: Wanted
    ) -> AsyncIterator[AsyncIterator[list[Event]]]:
        """Ask for a streamed answer; leaving the context early makes the server stop generating.

        Raises:
            OpenAIError: as ``complete``; also out of the iterator, when the stream breaks.
        """
        exchange = await self._ask(path, body, wanted)
        try:
            yield exchange.events()
        finally:
            exchange.close()

    async def models(self, *, fresh: bool = False) -> list[Model]:
        """The base models that the replicas list, or listed when they were last seen.

        Raises:
            OpenAIError: 503, when none was ever seen.
        """
        async with self._models_lock:
            if fresh or self._replicas.models() is None:
                await self._discovery.ask_models()
        models = self._replicas.models()
        if models is None:
            raise unavailable("The model server is away: try again in a moment.", self._retry_after)
        return models

    async def _ask(self, path: str, body: dict[str, Any], wanted: Wanted) -> Exchange:
        """An answer of which the first words are there, from the first replica that gives any."""
        payload = json.dumps(body).encode()
        tried: list[Replica] = []
        failure: ElsewhereError | None = None
        attempts = 0
        while attempts < ATTEMPTS and (replica := self._next(wanted, tried, failure)):
            if failure:
                metrics.gateway().retries.labels(failure.reason).inc()
            exchange = Exchange(self._session, replica)
            try:
                headers = request_headers(uuid.uuid4().hex)
                await exchange.begin(path, payload, headers, streamed=bool(body.get("stream")))
            except ElsewhereError as error:
                failure = error
                tried.append(replica)
                attempts += error.reason != "connect"
                self._failed(replica, wanted, error)
            except OpenAIError as error:
                raise self._refused(replica, wanted, error) from None
            else:
                self._succeeded(replica)
                return exchange
        raise (failure and failure.told) or self._no_replica(wanted)

    def _next(self, wanted: Wanted, tried: list[Replica], failure: ElsewhereError | None) -> Replica | None:
        """Another replica; where there is none, the same again if only its connection was lost."""
        replica = self._replicas.pick(wanted, tried)
        if replica is None and failure and failure.may_repeat:
            replica = self._replicas.pick(wanted)
        return replica

    def _succeeded(self, replica: Replica) -> None:
        if replica.breaker.succeeded():
            self._replicas.changed()

    def _failed(self, replica: Replica, wanted: Wanted, error: ElsewhereError) -> None:
        self._log.warning("replica failed", replica=replica.name, served=wanted.model, reason=str(error))
        if error.reason == "status" and (
            replica.takes_any or wanted.model not in replica.warm | {wanted.base}
        ):
            return  # About this model, or from a service behind which there are others.
        if replica.breaker.failed(time.monotonic(), at_once=error.reason == "abort"):
            self._log.warning("replica away", replica=replica.name, reason=str(error))
            self._replicas.changed()

    def _refused(self, replica: Replica, wanted: Wanted, error: OpenAIError) -> OpenAIError:
        """A refusal as it is; but that a replica with another base does not know a model is no news."""
        self._succeeded(replica)
        return error if error.status != 404 or replica.serves(wanted.base) else self._no_replica(wanted)

    def _no_replica(self, wanted: Wanted) -> OpenAIError:
        """The 503 that says what is missing and when to come back."""
        refusals = [
            replica.refused[wanted.model] for replica in self._replicas if wanted.model in replica.refused
        ]
        if refusals and all(wanted.model in replica.refused for replica in self._replicas if replica.is_up):
            return unavailable(
                f"{wanted.model} cannot be loaded now: {refusals[0].reason}", self._retry_after
            )
        free_at, now = self.free_at, datetime.now(UTC)
        if free_at is None or free_at <= now:
            message = f"No model server answers for {wanted.base} now: try again in a moment."
            return unavailable(message, self._retry_after)
        seconds = min((free_at - now).total_seconds() + 1, LONGEST_RETRY_AFTER)
        message = (
            f"No model server answers for {wanted.base} now, since a fine-tune is using its card until about "
            f"{free_at:%Y-%m-%dT%H:%M:%SZ}: try again then."
        )
        return unavailable(message, seconds)
