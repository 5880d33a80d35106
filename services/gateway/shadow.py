"""Shadow answers: what a candidate would have said, stored beside what was shown, and shown to nobody.

They are asked for once the shown answer has ended, only where its text is stored, and only while few callers
are being answered: a shadow is worth less than anybody's wait, so it is left out rather than queued.

An answer that the candidate fails to give is stored too, as failed: it is compared with what was shown. So
that both may fail, what the model server failed to show is asked of the candidate as well. Where nobody was
there to answer, or this process made the shadow give way or stopped, it says nothing about the candidate and
leaves no row. A shadow is asked later than what was shown, and in one piece: its delay is not measured.
"""

import asyncio
from collections.abc import Sized
from dataclasses import replace

from common import logging
from common.openai_errors import UNAVAILABLE, OpenAIError
from services.gateway import metrics, record
from services.gateway.closing import close_failed, close_whole
from services.gateway.endable import Endable
from services.gateway.ledger import Ledger
from services.gateway.record import Record
from services.gateway.requests import CompletionRequest
from services.gateway.served import Served, Target
from services.gateway.upstream import Upstream

LIMIT = 2  # at once, in one gateway
# With so many callers in flight at this gateway no shadow begins, and those under way are given up.
CALLERS = 16
SECONDS = 120.0
"""How long an answer may take, or twice as long as what was shown took, if that is longer."""
FAILED = 502
"""The status with which a row says that the model server failed."""
NOT_READY = frozenset({404, 429})
"""Statuses of a server that has not loaded a version yet, or has enough to do; see also ``UNAVAILABLE``."""


class Shadows:
    """Asks candidates in the background; ``callers`` are the completions that people wait for."""

    def __init__(self, served: Served, upstream: Upstream, ledger: Ledger, callers: Sized) -> None:
        self._served = served
        self._upstream = upstream
        self._ledger = ledger
        self._callers = callers
        self._running = Endable()
        self._tasks: set[asyncio.Task[None]] = set()

    def make_way(self) -> None:
        """A caller came: give up what is under way if there are many by now."""
        if len(self._running) and len(self._callers) >= CALLERS:
            self._running.end()

    def offer(self, request: CompletionRequest, shown: Target, row: Record) -> None:
        """An answer ended: ask the candidate the same, if it is in shadow and time allows."""
        if not row.values["stored"] or not _is_comparable(row):
            return
        target = self._served.snapshot.shadow(shown)
        if target is None:
            return
        if len(self._tasks) >= LIMIT or len(self._callers) >= CALLERS:
            _count("busy")
            return
        task = asyncio.create_task(self._run(request, target, row), name=f"shadow of {row.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Give up what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, request: CompletionRequest, target: Target, row: Record) -> None:
        try:
            async with self._running.block():
                _count(await self._ask(_whole(request), target, row))
        except TimeoutError:
            _count("busy")

    async def _ask(self, request: CompletionRequest, target: Target, row: Record) -> str:
        """Ask, and store the answer or that there was none; how it went."""
        made = self._record(request, target, row)
        body = {**request.upstream, "model": target.model}
        try:
            async with asyncio.timeout(_patience(row)):
                answer = await self._upstream.complete(
                    request.path, body, target.wanted(row.values["conversation_key"])
                )
            close_whole(made, answer)
        except TimeoutError:
            close_failed(made, OpenAIError(504, "The candidate took too long to answer."))
        except OpenAIError as error:
            logging.get("system").warning("no shadow answer", served=target.model, status=error.status)
            if error.code == UNAVAILABLE or error.status in NOT_READY:
                return "away"
            close_failed(made, error)
        self._ledger.close(made)
        return "stored" if made.status == "done" else "failed"

    def _record(self, request: CompletionRequest, target: Target, row: Record) -> Record:
        return record.begin(
            request,
            target,
            person_id=row.values["person_id"],
            key_id=None,  # no key pays for what its caller did not ask for
            conversation=row.values["conversation_key"],
            stored=True,
            gateway_id=row.values["gateway_id"],
            trace_id=row.values["trace_id"],
            shadow_of=row.id,
        )


def _whole(request: CompletionRequest) -> CompletionRequest:
    """The same request for an answer in one piece: nobody reads along."""
    upstream = {name: value for name, value in request.upstream.items() if name != "stream_options"}
    return replace(request, upstream={**upstream, "stream": False}, stream=False)


def _is_comparable(shown: Record) -> bool:
    """Whether it was answered to its end, or was not and the model server is why: else there is no saying."""
    return shown.status == "done" or (shown.status == "failed" and shown.values["status_code"] == FAILED)


def _patience(shown: Record) -> float:
    latency: float = shown.values["latency_ms"]
    return max(SECONDS, 2 * latency / 1000)


def _count(outcome: str) -> None:
    metrics.gateway().shadows.labels(outcome).inc()
