"""OpenAI's error shape, which every HTTP answer of ours that is not a success has.

``{"error": {"message": ..., "type": ..., "param": ..., "code": ...}}``, as the official SDKs read it:
https://platform.openai.com/docs/guides/error-codes
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response

UNAVAILABLE = "unavailable"
"""The code where nobody is there to answer: it says nothing about what was asked."""
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}
_LOCATIONS = {"body", "query", "path", "header", "form"}


class OpenAIError(Exception):
    """An answer that is not a success: raised anywhere below a route, sent in OpenAI's shape.

    ``type`` follows from the status where it is not given: ``invalid_request_error`` for a 4xx,
    ``server_error`` for a 5xx. ``headers`` travel with the answer, such as ``Retry-After``.
    """

    def __init__(
        self,
        status: int,
        message: str,
        type: str | None = None,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type or default_type(status)
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The JSON body of this error."""
        return error_body(self.message, self.type, self.param, self.code)


def default_type(status: int) -> str:
    """OpenAI's ``type`` for an HTTP status."""
    return _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")


def error_body(
    message: str, type: str = "invalid_request_error", param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """The body of an error answer in OpenAI's shape."""
    return {"error": {"message": message, "type": type, "param": param, "code": code}}


def invalid(message: str, param: str | None = None, code: str | None = None) -> OpenAIError:
    """A 400 whose message says what was wrong with ``param`` and what to send instead."""
    return OpenAIError(400, message, param=param, code=code)


def not_found(message: str, param: str | None = None, code: str | None = None) -> OpenAIError:
    """A 404."""
    return OpenAIError(404, message, param=param, code=code)


def unavailable(message: str, retry_after: float = 5) -> OpenAIError:
    """A 503 that says after how many seconds to try again."""
    return OpenAIError(503, message, code=UNAVAILABLE, headers={"Retry-After": str(round(retry_after))})


def unforeseen() -> OpenAIError:
    """A 500 that tells nothing: what happened is in the log under the request's id."""
    return OpenAIError(500, "The server had an error while processing your request; its log says more.")


def install_handlers(app: "FastAPI") -> None:
    """Make ``app`` answer every error in OpenAI's shape: ours and the framework's.

    The unforeseen one is answered by ``common.asgi.Observed``, which every app is wrapped in.
    """
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException

    handlers: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
        OpenAIError: _ours,
        HTTPException: _framework,
        RequestValidationError: _validation,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


def respond(error: OpenAIError) -> "Response":
    """The HTTP response of ``error``."""
    from starlette.responses import Response

    content = json.dumps(error.body(), ensure_ascii=False).encode()
    return Response(content, error.status, headers=error.headers, media_type="application/json")


async def _ours(_: "Request", error: Exception) -> "Response":
    assert isinstance(error, OpenAIError)
    return respond(error)


async def _framework(request: "Request", error: Exception) -> "Response":
    from starlette.exceptions import HTTPException

    assert isinstance(error, HTTPException)
    path = request.scope["path"]
    messages = {
        404: f"Unknown request URL: {request.method} {path}. See /docs for what this server answers.",
        405: f"{request.method} is not allowed for {path}. See /docs for what this server answers.",
    }
    message = messages.get(error.status_code, str(error.detail))
    code = {404: "unknown_url", 405: "method_not_supported"}.get(error.status_code)
    return respond(OpenAIError(error.status_code, message, code=code, headers=error.headers))


async def _validation(_: "Request", error: Exception) -> "Response":
    from fastapi.exceptions import RequestValidationError

    assert isinstance(error, RequestValidationError)
    problems = [(_param(problem["loc"]), problem["msg"]) for problem in error.errors()]
    message = "; ".join(f"{param}: {text}" if param else text for param, text in problems)
    return respond(invalid(message, param=problems[0][0] if problems else None))


def _param(location: tuple[Any, ...]) -> str | None:
    return ".".join(str(part) for part in location if part not in _LOCATIONS) or None
