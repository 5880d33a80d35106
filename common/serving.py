"""Serve an ASGI application until told to stop, the same way in every component."""

import math
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

import uvicorn

STARTUP_FAILURE = 3  # uvicorn's own
# What still runs is told so before the server cancels it: the words must reach their callers.
LAST_WORDS_SECONDS = 2.0
# A caller whose answer has just ended asks on at once, or not on this connection.
NEXT_REQUEST_SECONDS = 1.0


def serve(
    app: Any,
    *,
    host: str,
    port: int,
    drain_seconds: int,
    leave_seconds: float = 0.0,
    on_leave: Callable[[float], None] | None = None,
    untold: Callable[[], int] = lambda: 0,
) -> None:
    """Answer on ``host``:``port``; after SIGTERM what is in flight may go on for ``drain_seconds``.

    For ``leave_seconds`` before that, requests are still taken, while whoever sends them hears that this
    process leaves; and for as long, of the seconds for draining, as there are callers that have not heard it
    (``untold`` counts their answers): a connection must not close under their next request. ``on_leave`` is
    called first of all, with the seconds until what still runs is cut off.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="auto",  # uvloop and httptools, which the gateway and control depend on
        http="auto",
        log_config=None,  # through structlog
        access_log=False,  # the api stream has it
        server_header=False,
        timeout_graceful_shutdown=drain_seconds,
    )
    server = LeavingServer(config, leave_seconds, on_leave, untold)
    with suppress(KeyboardInterrupt):  # uvicorn raises the signal that stopped it once more
        server.run()
    if not server.started:
        sys.exit(STARTUP_FAILURE)


class LeavingServer(uvicorn.Server):
    """Stops in two steps on SIGTERM: it says that it leaves, then it does; on a second signal at once."""

    def __init__(
        self,
        config: uvicorn.Config,
        leave_seconds: float,
        on_leave: Callable[[float], None] | None,
        untold: Callable[[], int],
    ) -> None:
        super().__init__(config)
        self._leave_seconds = leave_seconds
        self._drain_seconds = float(config.timeout_graceful_shutdown or 0)
        self._on_leave = on_leave
        self._untold = untold
        self._was_told = False
        self._leaves_at: float | None = None
        self._ends_at = 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal; what follows from it is done in the event loop, by ``on_tick``."""
        is_first = not self._was_told
        super().handle_exit(sig, frame)
        self._was_told = True
        if is_first and self.started and sig == signal.SIGTERM:
            self.should_exit = False

    async def on_tick(self, counter: int) -> bool:
        """Run ten times a second: leave when told, and exit when that is over."""
        if self._was_told and self._leaves_at is None:
            self._begin_to_leave(0.0 if self.should_exit else self._leave_seconds)
        if self._leaves_at is not None and not self.should_exit:
            self._leave(self._leaves_at, time.monotonic())
        return await super().on_tick(counter)

    def _begin_to_leave(self, seconds: float) -> None:
        self._leaves_at = time.monotonic() + seconds
        self._ends_at = self._leaves_at + self._drain_seconds
        if self._on_leave:
            self._on_leave(seconds + max(0.0, self._drain_seconds - LAST_WORDS_SECONDS))

    def _leave(self, leaves_at: float, now: float) -> None:
        """Exit when it is time, or go on while there are callers to tell."""
        if self._untold() and now < self._ends_at - LAST_WORDS_SECONDS:
            self._leaves_at = max(leaves_at, now + NEXT_REQUEST_SECONDS)
        elif now >= leaves_at:
            self.config.timeout_graceful_shutdown = max(1, math.ceil(self._ends_at - now))
            self.should_exit = True
