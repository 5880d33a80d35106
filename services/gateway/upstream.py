"""The model server behind the gateway: vLLM, or any OpenAI-compatible endpoint.

Everything that the gateway asks of it goes through one ``Upstream``; nothing else knows an address.
"""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from common import logging, tracing
from common.openai_errors import OpenAIError, not_found, unavailable
from services.gateway.events import Event, split

CONNECT_SECONDS = 5.0
# Between two bytes: a request may wait long in vLLM's queue, but not for a host that vanished.
IDLE_SECONDS = 600.0
# vLLM's server closes idle connections after 5 s: let go of ours before it does.
KEEP_ALIVE_SECONDS = 4.0
MODELS_SECONDS = 5.0

Model = dict[str, Any]


class Upstream:
    """One pooled HTTP session to the model server at ``base_url``, which ends in its ``/v1``."""

    def __init__(self, base_url: str, api_key: str = "") -> None:
        self._base_url = base_url
        self._headers = {"Accept-Encoding": "identity"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._session: aiohttp.ClientSession | None = None
        self._models: list[Model] | None = None
        self._models_until = 0.0
        self._models_lock = asyncio.Lock()
        self._log = logging.get("system")

    async def start(self) -> None:
        """Open the session; connections are made as requests come."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=IDLE_SECONDS),
        )

    async def close(self) -> None:
        """Close every connection."""
        if self._session:
            await self._session.close()

    async def complete(self, path: str, body: dict[str, Any]) -> bytes:
        """Ask for a whole answer.

        Raises:
            OpenAIError: the server is away or refused, in words for the caller.
        """
        async with self._post(path, body) as response:
            try:
                return await response.read()
            except (aiohttp.ClientError, TimeoutError) as error:
                raise self._lost(error) from None

    @asynccontextmanager
    async def stream(self, path: str, body: dict[str, Any]) -> AsyncIterator[AsyncIterator[list[Event]]]:
        """Ask for a streamed answer; leaving the context early makes the server stop generating.

        Raises:
            OpenAIError: as ``complete``; also out of the iterator, when the stream breaks.
        """
        async with self._post(path, body) as response:
            yield self._events(response)

    async def models(self, *, fresh: bool = False) -> list[Model]:
        """The base models that the server lists (its adapters are versions, which the database knows).

        The list is kept for a few seconds, and when the server is away the last one seen is answered.

        Raises:
            OpenAIError: 503, when the server is away and none was ever seen.
        """
        async with self._models_lock:
            if self._models is None or fresh or time.monotonic() > self._models_until:
                try:
                    self._models = await self._list_models()
                except OpenAIError:
                    if self._models is None:
                        raise
                self._models_until = time.monotonic() + MODELS_SECONDS
        return self._models

    async def _list_models(self) -> list[Model]:
        assert self._session
        timeout = aiohttp.ClientTimeout(total=CONNECT_SECONDS)
        try:
            async with self._session.get(
                f"{self._base_url}/models", headers=self._headers, timeout=timeout
            ) as response:
                if response.status != 200:
                    raise translate(
                        response.status, await response.read(), response.headers.get("Retry-After")
                    )
                listed = (await response.json(content_type=None)).get("data") or []
        except (aiohttp.ClientError, TimeoutError, ValueError, AttributeError) as error:
            raise self._away(error) from None
        return [model for model in listed if isinstance(model, dict) and not model.get("parent")]

    @asynccontextmanager
    async def _post(self, path: str, body: dict[str, Any]) -> AsyncIterator[aiohttp.ClientResponse]:
        response = await self._send(path, json.dumps(body).encode())
        try:
            if response.status != 200:
                retry_after = response.headers.get("Retry-After")
                raise translate(response.status, await _error_text(response), retry_after)
            yield response
        finally:
            # Closing, and not releasing, an unread response is what tells the server to stop.
            response.close() if not response.content.at_eof() else response.release()

    async def _send(self, path: str, body: bytes, attempts: int = 2) -> aiohttp.ClientResponse:
        assert self._session
        headers = {
            **self._headers,
            **tracing.outgoing_headers(),
            "Content-Type": "application/json",
            # vLLM makes the completion's id of it, so it must be ours and new, never the caller's.
            "X-Request-Id": uuid.uuid4().hex,
        }
        try:
            return await self._session.post(f"{self._base_url}{path}", data=body, headers=headers)
        except aiohttp.ServerDisconnectedError as error:
            if attempts > 1:  # A kept connection that the server closed just now: nothing was answered.
                return await self._send(path, body, attempts - 1)
            raise self._away(error) from None
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._away(error) from None

    async def _events(self, response: aiohttp.ClientResponse) -> AsyncIterator[list[Event]]:
        try:
            async for events in split(response.content.iter_any()):
                yield events
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._lost(error) from None

    def _away(self, error: Exception) -> OpenAIError:
        self._log.warning("model server away", url=self._base_url, reason=repr(error))
        return unavailable("The model server is away: try again in a moment.")

    def _lost(self, error: Exception) -> OpenAIError:
        self._log.warning("model server lost", url=self._base_url, reason=repr(error))
        return OpenAIError(502, "The connection to the model server broke before the answer's end.")


def translate(status: int, body: bytes, retry_after: str | None = None) -> OpenAIError:
    """The upstream's refusal as ours: its own words for a 4xx that the caller can mend, else in general.

    A 401 or 403 is about our key and not the caller's, so it is a 502 that names the setting.
    """
    message, param = _words(body)
    if status in (401, 403):
        return OpenAIError(502, "The model server refused the gateway's own key: set UPSTREAM_API_KEY.")
    if status == 404:
        return not_found(message or "The model server does not know this model.", "model", "model_not_found")
    if status == 429:
        headers = {"Retry-After": retry_after or "5"}
        return OpenAIError(429, message or "The model server asks for a pause.", headers=headers)
    if 400 <= status < 500:
        return OpenAIError(status, message or f"The model server answered {status}.", param=param)
    if status == 503:
        return unavailable(message or "The model server cannot answer now: try again in a moment.")
    return OpenAIError(
        502,
        f"The model server failed ({status}): {message or 'no reason given'}",
        headers={"Retry-After": "5"},
    )


async def _error_text(response: aiohttp.ClientResponse) -> bytes:
    try:
        return await response.read()
    except (aiohttp.ClientError, TimeoutError):
        return b""


def _words(body: bytes) -> tuple[str, str | None]:
    """The message and the param of an error body: OpenAI's shape, or FastAPI's ``detail``, or none."""
    try:
        data = json.loads(body)
    except ValueError:
        return "", None
    error = data.get("error", data) if isinstance(data, dict) else None
    if isinstance(error, dict):
        message, param = error.get("message") or error.get("detail"), error.get("param")
        return str(message or "")[:2000], param.removeprefix("body.") if isinstance(param, str) else None
    return str(error or "")[:2000], None
