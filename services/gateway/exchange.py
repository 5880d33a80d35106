"""One request at one replica, up to the first bytes of its answer and beyond."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Literal

import aiohttp

from common import logging, tracing
from common.openai_errors import UNAVAILABLE, OpenAIError
from services.gateway.away import describe_connection
from services.gateway.events import ABORTED, Event, split
from services.gateway.refusals import translate
from services.gateway.replica import Replica

# ``connect``: nobody there. ``disconnect``: the connection closed, perhaps just before it was used again.
# ``status``: 502, 503 or 504. ``abort``: vLLM is shutting down. ``silent``: the replica stopped answering.
Reason = Literal["connect", "disconnect", "status", "abort", "silent"]

_LOST = "The connection to the model server broke before the answer's end."
_ENGINE_DEAD = b"EngineCore encountered"  # vLLM's 500 in its last seconds


class ElsewhereError(Exception):
    """Nothing of an answer came, so another replica may be asked.

    ``told`` are the server's own words for the caller, where there are any. ``may_repeat``: the same replica
    may be asked again, since all that is known to be gone is the connection.
    """

    def __init__(
        self, reason: Reason, cause: object, told: OpenAIError | None = None, *, may_repeat: bool = False
    ) -> None:
        super().__init__(f"{reason}: {cause}")
        self.reason = reason
        self.told = told
        self.may_repeat = may_repeat


class Exchange:
    """A request, in flight at ``replica`` until it is closed; ``answer`` is the body of a whole answer."""

    __slots__ = ("_batches", "_first", "_response", "_session", "answer", "replica")

    def __init__(self, session: aiohttp.ClientSession, replica: Replica) -> None:
        self._session = session
        self._response: aiohttp.ClientResponse | None = None
        self._first: list[Event] = []
        self.replica = replica
        self.answer = b""
        replica.in_flight += 1

    async def begin(self, path: str, body: bytes, headers: Mapping[str, str], *, streamed: bool) -> None:
        """Send it, and wait for the whole answer or a stream's first words.

        Raises:
            ElsewhereError: the replica could not answer, and none of an answer came.
            OpenAIError: it refused, in words for the caller.
        """
        try:
            async with self.replica.waiting.block():
                await self._send(path, body, headers)
                await (self._read_first() if streamed else self._read_whole())
        except aiohttp.ClientError as error:
            self.close()
            raise self._not_answered(error) from None
        except TimeoutError:
            self.close()
            raise ElsewhereError("silent", "it stopped answering") from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the connection, once; of one that is not read to its end the server hears that way."""
        self.replica.in_flight -= 1
        if self._response is not None:
            at_end = self._response.content.at_eof()
            self._response.release() if at_end else self._response.close()

    async def events(self) -> AsyncIterator[list[Event]]:
        """The events of a stream as they come.

        Raises:
            OpenAIError: 502, the stream broke.
        """
        yield self._first
        try:
            async for events in self._batches:
                yield events
        except (aiohttp.ClientError, TimeoutError) as error:
            logging.get("system").warning(
                "replica lost", replica=self.replica.name, reason=describe_connection(error)
            )
            raise OpenAIError(502, _LOST) from None

    async def _send(self, path: str, body: bytes, headers: Mapping[str, str]) -> None:
        headers = {**headers, **self.replica.headers}
        self._response = response = await self._session.post(
            f"{self.replica.base_url}{path}", data=body, headers=headers
        )
        if response.status != 200:
            raise _refused(response.status, await _text(response), response.headers.get("Retry-After"))

    async def _read_whole(self) -> None:
        assert self._response
        self.answer = await self._response.read()
        if ABORTED.search(self.answer):
            raise ElsewhereError("abort", "it is shutting down")

    async def _read_first(self) -> None:
        """Wait for words, an end or an error: a role alone comes from servers that then cannot answer."""
        assert self._response
        self._batches = split(self._response.content.iter_any())
        async for events in self._batches:
            self._first += events
            if not all(event.is_opening for event in events):
                break
        else:
            raise ElsewhereError("disconnect", "the stream ended before it began")
        for event in self._first:
            if event.has_text:
                break
            if (failure := event.error()) is not None:
                _judge(event, failure)

    def _not_answered(self, error: aiohttp.ClientError) -> ElsewhereError:
        nobody = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
        may_repeat = not nobody and self._response is None
        return ElsewhereError(
            "connect" if nobody else "disconnect", describe_connection(error), may_repeat=may_repeat
        )


def request_headers(request_id: str) -> dict[str, str]:
    """The headers of a completion; vLLM makes its id of ours, which must be new and never the caller's."""
    return {
        **tracing.outgoing_headers(),
        "Content-Type": "application/json",
        "X-Request-Id": request_id,
    }


def _refused(status: int, body: bytes, retry_after: str | None) -> Exception:
    told = translate(status, body, retry_after)
    if _is_passing(status, body):
        return _passing(status, told)
    return told


def _judge(event: Event, failure: Mapping[str, Any]) -> None:
    """Raise ElsewhereError for an error that a stream begins with and that is not about the request."""
    if ABORTED.search(event.raw):
        raise ElsewhereError("abort", "it is shutting down")
    if _is_passing(failure.get("code"), event.raw):
        told = OpenAIError(502, str(failure.get("message") or "The model server failed."))
        raise _passing(failure.get("code"), told)


def _passing(status: object, told: OpenAIError) -> ElsewhereError:
    """A replica's failure as a process, which is told to the caller where no other replica answers."""
    told.code = UNAVAILABLE
    return ElsewhereError("status", status, told)


def _is_passing(status: object, body: bytes) -> bool:
    return status in (502, 503, 504) or (status == 500 and _ENGINE_DEAD in body)


async def _text(response: aiohttp.ClientResponse) -> bytes:
    try:
        return await response.read()
    except aiohttp.ClientError:
        return b""
