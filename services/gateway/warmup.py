"""Loading adapters before they get traffic: a one-token request for each served version on each replica."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from typing import Literal

import aiohttp

from common import logging
from services.gateway import metrics
from services.gateway.away import describe_connection
from services.gateway.refusals import words
from services.gateway.replica import Refusal, Replica
from services.gateway.replicas import Replicas

WARM_SECONDS = 120.0  # the plugin fetches for as long as this
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
# How long a version waits for the other replicas once one has loaded it.
TOGETHER_SECONDS = 2.0
REQUEST_ID = "warm-up-{}"

# ``unknown``: there is no replica that could tell. ``failed``: none of those that there are could load it.
State = Literal["unknown", "loading", "ready", "failed"]


class Warmup:
    """Sees to it that every served version is loaded on every replica that has its base.

    One request at a time on each replica: it loads one adapter after the other anyway.
    """

    def __init__(
        self, replicas: Replicas, session: aiohttp.ClientSession, on_change: Callable[[], None]
    ) -> None:
        self._replicas = replicas
        self._session = session
        self._on_change = on_change
        self._served: Mapping[str, str] = {}
        self._ready_at: dict[str, float] = {}
        self._working: dict[Replica, asyncio.Task[None]] = {}
        self._log = logging.get("system")

    async def stop(self) -> None:
        """Stop what is under way."""
        tasks = [*self._working.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def serve(self, versions: Mapping[str, str]) -> None:
        """``versions``, each with its base model, are what is to be served from now on."""
        if versions != self._served:
            for name in self._served.keys() - versions.keys():
                self._ready_at.pop(name, None)
                metrics.gateway().version_unavailable.remove(name)
            self._served = versions
            for replica in self._replicas:
                self.look_at(replica)
        for name, base in versions.items():
            metrics.gateway().version_unavailable.labels(name).set(self.state(name, base) == "failed")

    def look_at(self, replica: Replica) -> None:
        """``replica`` answers: load on it what is missing there, unless that goes on already."""
        if replica not in self._working and self._missing(replica):
            work = asyncio.create_task(self._load(replica), name=f"warm up {replica.name}")
            self._working[replica] = work
            work.add_done_callback(lambda _: self._working.pop(replica, None))

    def state(self, version: str, base: str) -> State:
        """How far ``version`` is; ``ready`` once a replica has loaded it and the rest had time for it too."""
        able = [replica for replica in self._replicas if replica.is_up and replica.serves(base)]
        warm = [replica for replica in able if version in replica.warm]
        refused = [replica for replica in able if version in replica.refused]
        if not able:
            return "unknown"
        if len(refused) == len(able):
            return "failed"
        if not warm:
            return "loading"
        since = self._ready_at.setdefault(version, time.monotonic())
        waited = time.monotonic() - since >= TOGETHER_SECONDS
        return "ready" if waited or len(warm) + len(refused) == len(able) else "loading"

    def _missing(self, replica: Replica) -> str | None:
        """A version that ``replica`` should have and has not, as far as it is time to try."""
        now = time.monotonic()
        for name, base in self._served.items():
            if name in replica.warm or not replica.serves(base):
                continue
            refusal = replica.refused.get(name)
            if refusal is None or now >= refusal.again_at:
                return name
        return None

    async def _load(self, replica: Replica) -> None:
        while replica.is_up and (name := self._missing(replica)):
            try:
                async with asyncio.timeout(WARM_SECONDS):
                    reason = await self._ask(replica, name)
            except aiohttp.ClientError as error:
                self._log.warning(
                    "warm-up broke off", replica=replica.name, served=name, reason=describe_connection(error)
                )
                return  # The replica is away, which says nothing about the version: its probe goes on.
            except TimeoutError:
                reason = f"it was not loaded within {WARM_SECONDS:.0f} seconds"
            self._learnt(replica, name, reason)

    async def _ask(self, replica: Replica, name: str) -> str | None:
        """Have one token written by ``name``; why not, when it was not."""
        body = json.dumps({"model": name, "prompt": "Hello", "max_tokens": 1}).encode()
        headers = {
            **replica.headers,
            "Content-Type": "application/json",
            "X-Request-Id": REQUEST_ID.format(name),
        }
        url = f"{replica.base_url}/completions"
        async with self._session.post(url, data=body, headers=headers) as answer:
            text = await answer.read()
            return None if answer.status == 200 else words(text)[0] or f"it answered {answer.status}"

    def _learnt(self, replica: Replica, name: str, reason: str | None) -> None:
        before = replica.refused.pop(name, None)
        if reason is None:
            replica.warm.add(name)
            self._log.info("version loaded", replica=replica.name, served=name)
        else:
            pause = min(2 * before.pause, LONGEST_PAUSE_SECONDS) if before else FIRST_PAUSE_SECONDS
            replica.refused[name] = Refusal(reason, time.monotonic() + pause, pause)
            if before is None or before.reason != reason:
                self._log.error("version unavailable", replica=replica.name, served=name, reason=reason)
        self._replicas.changed()
        self._on_change()
