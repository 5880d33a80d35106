"""A bound on request bodies, held while they arrive: nobody fills the disk before being refused.

The framework's own (``max_body_size``) answers in plain text, and ends in an error that is logged as ours.
"""

from starlette.exceptions import HTTPException

from common.asgi import ASGIApp, Message, Receive, Scope, Send, headers_of
from common.openai_errors import OpenAIError, respond
from services.control.uploads import MAX_BYTES

_UPLOADS = "/v1/files"
_FORM_BYTES = 1 << 20
_JSON_BYTES = 4 << 20


class BodyLimit:
    """ASGI middleware: 512 MiB and a form's parts for uploads, 4 MiB for everything else; else a 413."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = MAX_BYTES + _FORM_BYTES if scope["path"] == _UPLOADS else _JSON_BYTES
        declared = headers_of(scope).get("content-length", "0")
        if declared.isdigit() and int(declared) > limit:
            await respond(OpenAIError(413, _sentence(limit)))(scope, receive, send)
            return
        await self._app(scope, _Counted(receive, limit), send)


class _Counted:
    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._left = limit

    async def __call__(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            # The framework turns every other kind of exception here into a 400 of its own.
            raise HTTPException(413, _sentence(self._limit))
        return message


def _sentence(limit: int) -> str:
    return f"The request's body is above {limit >> 20} MiB: send less at once."
