"""Serve an ASGI application until told to stop, the same way in every component."""

from typing import Any

import uvicorn


def serve(app: Any, *, host: str, port: int, drain_seconds: int) -> None:
    """Answer on ``host``:``port``; after SIGTERM what is in flight may go on for ``drain_seconds``."""
    uvicorn.run(
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
