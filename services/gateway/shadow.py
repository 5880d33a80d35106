"""Shadow answers: what a candidate would have said, stored beside what was shown, and shown to nobody.

They are asked for once the shown answer has ended, only where its text is stored, and only while few callers
are being answered: a shadow is worth less than anybody's wait, so it is left out rather than queued.
"""

import asyncio
from collections.abc import Sized
from dataclasses import replace

from common import logging
from common.openai_errors import OpenAIError
from services.gateway import metrics, record
from services.gateway.closing import close_whole
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
        """An answer was shown to its end: ask the candidate the same, if it is in shadow and time allows."""
        if row.status != "done" or not row.values["stored"]:
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
            async with self._running.block() as block:
                _count(await self._ask(_whole(request), target, row))
        except TimeoutError:
            _count("busy" if block.expired() else "failed")

    async def _ask(self, request: CompletionRequest, target: Target, row: Record) -> str:
        """Ask and store; how it went. Whatever goes wrong is nobody's answer, so it leaves no row."""
        made = self._record(request, target, row)
        body = {**request.upstream, "model": target.model}
        try:
            async with asyncio.timeout(SECONDS):
                answer = await self._upstream.complete(
                    request.path, body, target.wanted(row.values["conversation_key"])
                )
            close_whole(made, answer)
        except OpenAIError as error:
            logging.get("system").warning("no shadow answer", served=target.model, status=error.status)
            return "failed"
        self._ledger.close(made)
        return "stored"

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


def _count(outcome: str) -> None:
    metrics.gateway().shadows.labels(outcome).inc()
