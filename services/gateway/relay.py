"""One completion from the upstream to the caller, as it comes, with its row.

Written as ASGI responses: they run after the route has returned, see the caller leave at any moment, and
hold back nothing but the stream's ``[DONE]`` (or the whole response) until the final row is committed.
"""

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from common import logging
from common.asgi import Receive, Scope, Send
from common.openai_errors import OpenAIError, unavailable, unforeseen
from services.database.tables import CompletionStatus
from services.gateway import metrics
from services.gateway.answers import Answer
from services.gateway.closing import close_done, close_failed, close_whole
from services.gateway.disconnect import unless_disconnected
from services.gateway.events import DONE, Event, error_event
from services.gateway.ledger import Ledger, NotSavedError
from services.gateway.record import Record
from services.gateway.requests import CompletionRequest
from services.gateway.served import Target
from services.gateway.shadow import Shadows
from services.gateway.traffic import Traffic
from services.gateway.upstream import Upstream

COMPLETION_HEADER = "x-onggi-completion"
_STOPPED = "The gateway was stopped before the answer's end: ask again."
_NOT_SAVED = "The answer could not be put on record, so it does not count as complete: ask again."


class Relay(Response):
    """What a streamed and a whole completion have in common.

    ``headers`` are added to the answer's; ``x-onggi-completion`` names the row.
    """

    def __init__(
        self,
        request: CompletionRequest,
        target: Target,
        record: Record,
        *,
        upstream: Upstream,
        ledger: Ledger,
        traffic: Traffic,
        shadows: Shadows,
        headers: Mapping[str, str],
    ) -> None:
        self.background = None
        self._request = request
        self._traffic = traffic
        self._shadows = shadows
        self._wanted = target.wanted(record.values["conversation_key"])
        self._body = {**request.upstream, "model": target.model}
        self._target = target
        self._record = record
        self._upstream = upstream
        self._ledger = ledger
        self._more_headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run to the end, or until the caller leaves: either way the row is closed."""
        try:
            await unless_disconnected(receive, self._run_until_told(send))
        except OpenAIError as error:
            self._fail(error)
            raise
        except Exception:
            self._close("failed", status_code=500, error="unforeseen: see the log")
            raise
        finally:
            # Not closed by now: the caller left, or this process is being stopped.
            self._close("interrupted", error="the caller left")
            self._report()
            self._shadows.offer(self._request, self._target, self._record)

    async def _run_until_told(self, send: Send) -> None:
        """Run, but no longer than this process may."""
        try:
            async with self._traffic.running.block() as block:
                self._shadows.make_way()
                await self._run(send)
        except TimeoutError as error:
            raise (unavailable(_STOPPED) if block.expired() else error) from None

    async def _run(self, send: Send) -> None:
        raise NotImplementedError

    def _close(self, status: CompletionStatus, **values: Any) -> None:
        """Close the row without waiting; the first word stands."""
        if not self._record.closed:
            self._record.close(status, **values)
            self._ledger.close(self._record)

    def _fail(self, error: OpenAIError) -> None:
        """Close the row as failed, without waiting; the first word stands."""
        if not self._record.closed:
            close_failed(self._record, error)
            self._ledger.close(self._record)

    async def _start(self, send: Send, content_type: str, more: Mapping[str, str] | None = None) -> None:
        headers = {
            "content-type": content_type,
            COMPLETION_HEADER: self._record.id,
            **self._more_headers,
            **(more or {}),
        }
        encoded = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": encoded})

    def _report(self) -> None:
        values, counted = self._record.values, metrics.gateway()
        labels = (self._target.model, self._target.arm)
        counted.completions.labels(*labels, values["status"]).inc()
        counted.duration.labels(*labels).observe(values["latency_ms"] / 1000)
        for kind in ("prompt", "completion"):
            counted.tokens.labels(*labels, kind).inc(values[f"{kind}_tokens"] or 0)
        if values["ttft_ms"] is not None:
            counted.first_token.labels(*labels).observe(values["ttft_ms"] / 1000)
        tokens, seconds = values["completion_tokens"] or 0, values["latency_ms"] / 1000
        logging.get("inference").info(
            "completion",
            completion=self._record.id,
            served=self._target.model,
            status=values["status"],
            latency=seconds,
            tokens_generated=tokens,
            throughput=round(tokens / seconds, 3) if seconds else 0.0,
        )


class WholeRelay(Relay):
    """A completion in one piece."""

    async def _run(self, send: Send) -> None:
        body = await self._upstream.complete(self._request.path, self._body, self._wanted)
        close_whole(self._record, body)
        try:
            await self._ledger.finish(self._record)
        except NotSavedError:
            raise unavailable(_NOT_SAVED) from None
        await self._start(send, "application/json", {"content-length": str(len(body))})
        await send({"type": "http.response.body", "body": body})


class StreamRelay(Relay):
    """A completion as server-sent events, forwarded byte for byte.

    Only a usage event that the caller did not ask for is left out, and ``[DONE]`` waits for the final row.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._answer = Answer() if self._record.values["stored"] else None
        self._usage: Mapping[str, Any] = {}
        self._finish_reason: str | None = None
        self._begun = False

    async def _run(self, send: Send) -> None:
        async with self._upstream.stream(self._request.path, self._body, self._wanted) as batches:
            async for events in batches:
                if await self._forward(events, send):
                    break
            else:
                raise OpenAIError(502, "The model server's answer broke off before its end.")
            await self._end(send)

    async def _run_until_told(self, send: Send) -> None:
        try:
            await super()._run_until_told(send)
        except Exception as error:
            if not self._begun:
                raise
            await self._break_off(error, send)

    async def _break_off(self, error: Exception, send: Send) -> None:
        """Say in the stream that it ends here, and why: a caller must never take silence for an end."""
        if not isinstance(error, OpenAIError):
            logging.get("system").exception("unhandled error in a stream", completion=self._record.id)
            error = unforeseen()
        self._fail(error)
        await self._last(send, error_event(error))

    async def _forward(self, events: list[Event], send: Send) -> bool:
        """Send on what of ``events`` is the caller's, in one piece; True when ``[DONE]`` came.

        Raises:
            OpenAIError: the upstream reports an error in the stream; what came before it has been sent.
        """
        kept = bytearray()
        done, failure = False, None
        for event in events:
            done = event.is_done
            failure = None if done else event.error()
            if done or failure is not None:
                break
            if self._take(event):
                kept += event.raw
        if kept:
            await self._begin(events[0], send)
            await send({"type": "http.response.body", "body": bytes(kept), "more_body": True})
        if failure is not None:
            raise OpenAIError(502, str(failure.get("message") or "The model server failed in mid-answer."))
        return done

    def _take(self, event: Event) -> bool:
        """Note what an event says; False when the caller did not ask for it."""
        if usage := event.usage():
            self._usage = usage
            if event.is_only_usage():
                return self._request.wants_usage
        self._finish_reason = event.finish_reason or self._finish_reason
        self._record.tokens += event.has_text
        if self._answer:
            self._answer.add(event.parse())
        return True

    async def _begin(self, event: Event, send: Send) -> None:
        """With the first event: the row's id, the open row on its way, the headers."""
        if self._begun:
            return
        self._begun = True
        self._record.take_id(event.parse().get("id"))
        self._record.first_byte()
        self._ledger.open(self._record)
        await self._start(
            send, "text/event-stream; charset=utf-8", {"cache-control": "no-cache", "x-accel-buffering": "no"}
        )

    async def _end(self, send: Send) -> None:
        answer = self._answer.as_json() if self._answer else None
        close_done(self._record, self._usage, self._finish_reason, answer)
        try:
            await self._ledger.finish(self._record)
        except NotSavedError:
            await self._last(send, error_event(unavailable(_NOT_SAVED)))
            return
        if not self._begun:
            await self._start(send, "text/event-stream; charset=utf-8")
        await self._last(send, DONE)

    async def _last(self, send: Send, body: bytes) -> None:
        await send({"type": "http.response.body", "body": body})
