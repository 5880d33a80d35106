"""The HTTP API as the UI uses it: the gateway for chat, control for everything else."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import aiohttp

AWAY = "Onggi does not answer at the moment. Your words are safe: try again in a minute."
CUT = "The answer broke off: the connection was lost. What came is kept; ask again for the rest."
SECONDS_IDLE = 3
_HEADER_COMPLETION, _HEADER_MODEL = "x-onggi-completion", "x-onggi-model"


class ApiError(Exception):
    """An answer that is not a success, as one sentence for a person; ``status`` is 0 when none came."""

    def __init__(self, sentence: str, status: int = 0) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True)
class Model:
    """A model that can be asked for."""

    id: str
    is_ours: bool


@dataclass(frozen=True)
class Piece:
    """A piece of a streamed answer; every one names the completion and the model that answers."""

    text: str
    completion_id: str
    model: str


class Api:
    """Asks gateway and control on behalf of people; ``bearer`` is each one's own credential, or None."""

    def __init__(self, gateway_url: str, control_url: str) -> None:
        self._gateway = gateway_url
        self._control = control_url
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the connection pool, in the event loop that will use it."""
        # A stream lasts as long as its answer; only silence is an end.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=300)
        # uvicorn closes a connection that was idle for 5 s: a request must not meet it while it closes.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=SECONDS_IDLE)
        self._session = aiohttp.ClientSession(timeout=timeout, connector=connector)

    async def close(self) -> None:
        """Close every connection."""
        if self._session:
            await self._session.close()

    async def me(self, bearer: str | None) -> dict[str, Any]:
        """Who ``bearer`` is."""
        return await self._json("GET", f"{self._control}/onggi/v1/people/me", bearer)

    async def join(self, invite: str, name: str) -> str:
        """Use an invite: the new person's credential."""
        body = {"token": invite, "name": name}
        joined = await self._json("POST", f"{self._control}/onggi/v1/people/join", None, body)
        return str(joined["token"])

    async def invite(self, bearer: str | None) -> str:
        """A new invite's token (owners only)."""
        made = await self._json("POST", f"{self._control}/onggi/v1/people/invites", bearer, {})
        return str(made["token"])

    async def models(self, bearer: str | None) -> list[Model]:
        """Everything that may be asked for: bots, then bases, then single versions of bots."""
        listed = (await self._json("GET", f"{self._gateway}/v1/models", bearer))["data"]
        models = [Model(model["id"], model.get("owned_by") == "onggi") for model in listed]
        return sorted(models, key=lambda model: ("@" in model.id, not model.is_ours))

    async def conversations(self, bearer: str | None, limit: int) -> list[dict[str, Any]]:
        """One's own conversations, the last used first."""
        url = f"{self._control}/onggi/v1/conversations?limit={limit}"
        return list((await self._json("GET", url, bearer))["data"])

    async def conversation(self, bearer: str | None, conversation_id: str) -> dict[str, Any]:
        """One conversation with its turns and what was said of them."""
        return await self._json("GET", f"{self._control}/onggi/v1/conversations/{conversation_id}", bearer)

    async def give_feedback(self, bearer: str | None, completion_id: str, **said: int | str) -> None:
        """Say a ``rating`` (-1 or 1), a ``correction`` or a ``comment`` about an answer."""
        body = {"completion_id": completion_id, **said}
        await self._json("POST", f"{self._control}/onggi/v1/feedback", bearer, body)

    async def bot(self, bearer: str | None, name: str) -> dict[str, Any]:
        """What a bot's name serves."""
        return await self._json("GET", f"{self._control}/onggi/v1/bots/{name}", bearer)

    async def begin_comparison(self, bearer: str | None, bot: str, completions: list[str]) -> str:
        """Say that two answers were shown, in this order: the comparison's id."""
        body = {"bot": bot, "completions": completions}
        return str((await self._json("POST", f"{self._control}/onggi/v1/comparisons", bearer, body))["id"])

    async def choose(self, bearer: str | None, comparison_id: str, choice: str) -> None:
        """Choose ``first``, ``second`` or ``tie``."""
        url = f"{self._control}/onggi/v1/comparisons/{comparison_id}/choice"
        await self._json("POST", url, bearer, {"choice": choice})

    async def chat(
        self, bearer: str | None, *, model: str, messages: list[dict[str, str]], conversation_id: str
    ) -> AsyncIterator[Piece]:
        """Ask ``model`` and yield its answer as it comes; closing the iterator ends the generation.

        Raises:
            ApiError: there is no answer, or it broke off.
        """
        body = {
            "model": model,
            "messages": messages,
            "stream": True,
            "store": True,
            "metadata": {"conversation_id": conversation_id},
        }
        async with self._request("POST", f"{self._gateway}/v1/chat/completions", bearer, body) as response:
            completion, answering = (
                response.headers.get(name) for name in (_HEADER_COMPLETION, _HEADER_MODEL)
            )
            async for event in _events(response):
                if "error" in event:
                    raise ApiError(str(event["error"]["message"]), response.status)
                text = "".join(choice["delta"].get("content") or "" for choice in event["choices"])
                yield Piece(text, completion or event["id"], answering or event["model"])

    async def _json(
        self, method: str, url: str, bearer: str | None, body: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        async with self._request(method, url, bearer, body) as response:
            return dict(await response.json())

    @asynccontextmanager
    async def _request(
        self, method: str, url: str, bearer: str | None, body: dict[str, Any] | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        assert self._session, "open() comes first"
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        try:
            async with self._session.request(method, url, json=body, headers=headers) as response:
                if response.status >= HTTPStatus.BAD_REQUEST:
                    raise await _refusal(response)
                yield response
        except aiohttp.ClientPayloadError:
            raise ApiError(CUT) from None
        except (aiohttp.ClientError, TimeoutError):
            raise ApiError(AWAY) from None


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """The JSON events of a server-sent stream (https://html.spec.whatwg.org/#server-sent-events)."""
    async for line in response.content:
        data = line.removeprefix(b"data:").strip()
        if data == b"[DONE]":
            return
        if line.startswith(b"data:"):
            yield json.loads(data)
    raise ApiError(CUT)


async def _refusal(response: aiohttp.ClientResponse) -> ApiError:
    try:
        sentence = str((await response.json())["error"]["message"])
    except (ValueError, LookupError, TypeError, aiohttp.ContentTypeError):
        sentence = AWAY
    if response.status == HTTPStatus.UNAUTHORIZED:
        sentence = "Your session has ended: reload this page to come in again."
    if response.status == HTTPStatus.SERVICE_UNAVAILABLE and (seconds := response.headers.get("Retry-After")):
        sentence = f"{sentence.rstrip('.')}. Try again in {_duration(seconds)}."
    return ApiError(sentence, response.status)


def _duration(seconds: str) -> str:
    if not seconds.isdigit():
        return "a while"
    count = int(seconds)
    return f"{count} s" if count < 120 else f"about {round(count / 60)} minutes"
