"""The routes of vLLM's server that others may ask; every other one is a 404.

vLLM listens on one port for chat and for ``/v1/load_lora_adapter``, ``/tokenize``, ``/invocations``,
``/scale_elastic_ep`` and some thirty more, so no NetworkPolicy can tell them apart. It runs with
``--middleware services.vllm.allowlist.RouteAllowList``, and vLLM adds that one outermost.

What counts is ``scope["path"]``, the decoded path that Starlette routes by (CVE-2026-48710: the Host header
can make the URL look different), compared as a whole: a trailing slash, a doubled slash or a prefix makes
another path. An encoded letter does not, as it is decoded before both the comparison and the routing. With
``--root-path`` fewer paths pass, never others: the router takes that prefix off what has passed here.
"""

import json

from common.asgi import ASGIApp, Receive, Scope, Send
from common.openai_errors import error_body

ALLOWED = frozenset(
    {
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/completions"),
        ("POST", "/v1/embeddings"),
        ("GET", "/v1/models"),
        ("GET", "/health"),
        ("GET", "/metrics"),
    }
)


class RouteAllowList:
    """Pure ASGI middleware: passes the allowed HTTP routes on; 404 to all else, WebSockets too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan" or _allowed(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await _refuse(scope, send, "http.response")
        else:
            await _refuse_websocket(scope, receive, send)


def _allowed(scope: Scope) -> bool:
    return scope["type"] == "http" and (scope["method"], scope["path"]) in ALLOWED


async def _refuse(scope: Scope, send: Send, kind: str) -> None:
    method, path = scope.get("method", "GET"), scope["path"]
    content = json.dumps(error_body(f"Unknown request URL: {method} {path}.", code="unknown_url")).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": f"{kind}.start", "status": 404, "headers": headers})
    await send({"type": f"{kind}.body", "body": content})


async def _refuse_websocket(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()  # websocket.connect
    if "websocket.http.response" in (scope.get("extensions") or {}):
        await _refuse(scope, send, "websocket.http.response")
    else:
        await send({"type": "websocket.close"})  # before it is accepted: the server answers 403
