"""How a person comes in: by an invite link or a key, kept in a cookie that scripts cannot read."""

import html
from http import HTTPStatus
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from common.asgi import ASGIApp, Receive, Scope, Send
from services.ui.api import Api, ApiError

COOKIE = "onggi_session"
COOKIE_SECONDS = 365 * 24 * 3600  # the credential in it may end earlier, and says so then
_DOOR = Template((Path(__file__).parent / "look" / "door.html").read_text(encoding="utf-8"))
_LONGEST_FORM = 10_000

router = APIRouter()


class Door:
    """Pure ASGI middleware before Gradio's app: the page itself is for people who are known.

    Everything else that Gradio has asks the API with the visitor's own credential, which decides there.
    Uploads it would take from anybody, and the chat has no use for them.
    """

    def __init__(self, app: ASGIApp, api: Api) -> None:
        self._app = app
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        response = await self._stop(Request(scope)) if scope["type"] == "http" else None
        await (response or self._app)(scope, receive, send)

    async def _stop(self, request: Request) -> Response | None:
        path = request.scope["path"]
        if "upload" in path.split("/"):
            return Response(status_code=HTTPStatus.NOT_FOUND)
        if path != "/" or request.method not in ("GET", "HEAD"):
            return None
        if invite := request.query_params.get("invite"):
            return door(invite=invite)
        try:
            await self._api.me(credential(request))
        except ApiError as error:
            known_status = error.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
            return (
                door() if known_status else door(sentence=str(error), status=HTTPStatus.SERVICE_UNAVAILABLE)
            )
        return None


def credential(request: Any) -> str | None:
    """A visitor's credential, from FastAPI's or Gradio's request."""
    value = request.cookies.get(COOKIE)
    return str(value) if value else None


def door(invite: str = "", sentence: str = "", status: int = HTTPStatus.OK) -> HTMLResponse:
    """The page before the chat: with an invite it asks for a name, else for an invite or a key."""
    page = _DOOR.substitute(
        invite=html.escape(invite, quote=True),
        sentence=html.escape(sentence),
        invited="" if invite else "hidden",
        uninvited="hidden" if invite else "",
        trouble="" if sentence else "hidden",
    )
    return HTMLResponse(page, status, headers={"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})


@router.post("/join")
async def join(request: Request) -> Response:
    """Use an invite."""
    form = await _form(request)
    invite, name = form.get("invite", ""), form.get("name", "")
    try:
        bearer = await _api(request).join(invite, name)
    except ApiError as error:
        return door(invite=invite if error.status != HTTPStatus.FORBIDDEN else "", sentence=str(error))
    return _come_in(request, bearer)


@router.post("/sign-in")
async def sign_in(request: Request) -> Response:
    """Come in with an invite link or an API key."""
    given = (await _form(request)).get("key", "")
    if not given.startswith("sk-"):
        return door(invite=given.rpartition("invite=")[2])
    try:
        await _api(request).me(given)
    except ApiError as error:
        refused = error.status == HTTPStatus.UNAUTHORIZED
        return door(
            sentence="This key opens nothing here: check it for typing errors." if refused else str(error)
        )
    return _come_in(request, given)


@router.post("/sign-out")
async def sign_out() -> Response:
    """Forget the credential."""
    response = RedirectResponse("/", HTTPStatus.SEE_OTHER)
    response.delete_cookie(COOKIE)
    return response


def _come_in(request: Request, bearer: str) -> Response:
    response = RedirectResponse("/", HTTPStatus.SEE_OTHER)
    secure = request.url.scheme == "https"
    # Lax: a form on another site cannot send it, a link in a mail does open the chat.
    response.set_cookie(COOKIE, bearer, COOKIE_SECONDS, httponly=True, samesite="lax", secure=secure)
    return response


async def _form(request: Request) -> dict[str, str]:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LONGEST_FORM:
            return {}
    fields = parse_qs(body.decode("utf-8", "replace"))
    return {name: values[0].strip() for name, values in fields.items()}


def _api(request: Request) -> Api:
    api: Api = request.app.state.api
    return api
