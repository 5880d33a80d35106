"""The completions under way in this process, and how it leaves: first it says so, then nothing runs on."""

import asyncio

from common import logging
from common.asgi import ASGIApp, Message, Receive, Scope, Send
from services.gateway import metrics
from services.gateway.endable import Endable


class Traffic:
    """``running`` are the completions under way; ``is_leaving`` says that this process was told to stop.

    ``untold`` counts the answers that began before that: their callers have not heard of it, and will send
    their next request on the same connection.
    """

    def __init__(self) -> None:
        self.running = Endable()
        self.is_leaving = False
        self.untold = 0
        metrics.watch_requests(self.running)

    def leave(self, seconds: float) -> None:
        """Be unready from now on; what still runs after ``seconds`` ends there and says so."""
        self.is_leaving = True
        logging.get("system").info("leaving", in_flight=len(self.running), seconds=seconds)
        asyncio.get_running_loop().call_later(seconds, self.running.end)


class GoodBye:
    """ASGI middleware: while the process leaves, each answer asks the caller to connect anew.

    Balancers keep connections; one that is closed just as it is used again loses a request.
    """

    def __init__(self, app: ASGIApp, traffic: Traffic) -> None:
        self._app = app
        self._traffic = traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif self._traffic.is_leaving:
            await self._app(scope, receive, _closing(send))
        else:
            await self._untold(scope, receive, send)

    async def _untold(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._traffic.untold += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._traffic.untold -= 1


def _closing(send: Send) -> Send:
    async def send_closing(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
        await send(message)

    return send_closing
