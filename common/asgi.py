"""Pure ASGI middleware that every HTTP component shares: request id, api log, metrics, trace.

One class and not Starlette's BaseHTTPMiddleware, which copies every chunk of a stream through a queue and
hides a client's disconnect. It trusts ``scope["path"]`` only, never the Host header (CVE-2026-48710).
"""

import re
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import structlog

from common import logging, metrics, tracing
from common.openai_errors import respond, unforeseen

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

REQUEST_ID = "x-request-id"
# What a caller may send as its own request id: it is repeated in headers and logs.
_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


class Observed:
    """Wraps an ASGI app: one request id, api log line, set of metrics and (when traced) span per request.

    The request id is the caller's ``x-request-id`` when it is harmless, else a new one; it is in
    ``scope["state"]["request_id"]``, in the answer's headers and in every log line of the request. The route
    label is the matched route's template, so that paths with ids in them make one series.
    Paths in ``quiet`` (health checks, metrics) are counted but not logged. An error that nothing below
    foresaw is logged with its traceback and answered as a 500 in OpenAI's shape.
    """

    def __init__(
        self,
        app: ASGIApp,
        component: str,
        *,
        traced: bool = False,
        quiet: Iterable[str] = ("/health", "/ready", "/metrics"),
    ) -> None:
        self._app = app
        self._component = component
        self._traced = traced
        self._quiet = frozenset(quiet)
        self._log = logging.get("api")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; lifespan and websockets pass through untouched."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, send)
        in_flight = metrics.http().in_flight.labels(self._component)
        in_flight.inc()
        try:
            with structlog.contextvars.bound_contextvars(request_id=exchange.request_id), self._span(scope):
                try:
                    await self._serve(exchange, receive)
                finally:
                    self._record(exchange)
        finally:
            in_flight.dec()

    async def _serve(self, exchange: "_Exchange", receive: Receive) -> None:
        try:
            await self._app(exchange.scope, receive, exchange.send)
        except Exception:
            self._log.exception("unhandled error", path=exchange.scope["path"])
            if exchange.status:  # The answer was begun: let the server cut the connection.
                raise
            await respond(unforeseen())(exchange.scope, receive, exchange.send)

    def _span(self, scope: Scope) -> AbstractContextManager[Any]:
        if not self._traced:
            return nullcontext()
        return tracing.server_span(f"{scope['method']} {scope['path']}", headers_of(scope))

    def _record(self, exchange: "_Exchange") -> None:
        scope, seconds = exchange.scope, time.perf_counter() - exchange.began
        method = scope["method"] if scope["method"] in _METHODS else "other"
        route = route_template(scope)
        counted = metrics.http()
        counted.requests.labels(self._component, method, route, str(exchange.status)).inc()
        counted.seconds.labels(self._component, method, route).observe(seconds)
        if scope["path"] not in self._quiet:
            self._log.info(
                "request",
                http_method=method,
                path=scope["path"],
                status_code=exchange.status,
                response_time=round(seconds, 6),
            )


class _Exchange:
    """One request and what became of it. A status of 0 means that no answer was begun."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.scope = scope
        self.began = time.perf_counter()
        self.status = 0
        self.request_id = _request_id(scope)
        self._send = send
        scope.setdefault("state", {})["request_id"] = self.request_id

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", ()), self._header()]}
        await self._send(message)

    def _header(self) -> tuple[bytes, bytes]:
        return REQUEST_ID.encode(), self.request_id.encode()


def route_template(scope: Scope) -> str:
    """The template of the route that matched, such as ``/v1/models/{model}``; ``unmatched`` when none did."""
    template = getattr(scope.get("route"), "path", None)
    return template if isinstance(template, str) else "unmatched"


def headers_of(scope: Scope) -> dict[str, str]:
    """The request's headers, names in lower case."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def _request_id(scope: Scope) -> str:
    given = next((value for name, value in scope["headers"] if name == REQUEST_ID.encode()), b"")
    text: str = given.decode("latin-1")
    return text if _SAFE_ID.fullmatch(text) else f"req_{uuid.uuid4().hex}"
