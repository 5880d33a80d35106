"""Serve an ASGI application until told to stop, the same way in every component."""

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


def serve(
    app: Any,
    *,
    host: str,
    port: int,
    drain_seconds: int,
    leave_seconds: float = 0.0,
    on_leave: Callable[[float], None] | None = None,
) -> None:
    """Answer on ``host``:``port``; after SIGTERM what is in flight may go on for ``drain_seconds``.

    For ``leave_seconds`` before that, requests are still taken, while whoever sends them hears that this
    process leaves. ``on_leave`` is called first of all, with the seconds until what still runs is cut off.
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
    server = LeavingServer(config, leave_seconds, on_leave)
    with suppress(KeyboardInterrupt):  # uvicorn raises the signal that stopped it once more
        server.run()
    if not server.started:
        sys.exit(STARTUP_FAILURE)


class LeavingServer(uvicorn.Server):
    """Stops in two steps on SIGTERM: it says that it leaves, then it does; on a second signal at once."""

    def __init__(
        self, config: uvicorn.Config, leave_seconds: float, on_leave: Callable[[float], None] | None
    ) -> None:
        super().__init__(config)
        self._leave_seconds = leave_seconds
        self._on_leave = on_leave
        self._was_told = False
        self._leaves_at: float | None = None

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
            seconds = 0.0 if self.should_exit else self._leave_seconds
            self._leaves_at = time.monotonic() + seconds
            if self._on_leave:
                drain = self.config.timeout_graceful_shutdown or 0
                self._on_leave(seconds + max(0.0, drain - LAST_WORDS_SECONDS))
        if self._leaves_at is not None and time.monotonic() >= self._leaves_at:
            self.should_exit = True
        return await super().on_tick(counter)
