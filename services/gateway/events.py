"""Server-sent events of a completion stream: where one ends, and the little of it that we must know.

Most events are forwarded without being parsed. The format:
https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

import json
import re
from collections.abc import AsyncIterator
from typing import Any

from common.openai_errors import OpenAIError

DONE = b"data: [DONE]\n\n"
LARGEST_EVENT = 16 * 2**20

_BOUNDARY = re.compile(rb"\r?\n\r?\n|\r\r")
_DONE = re.compile(rb"data:\s*\[DONE\]\s*")
_FINISH = re.compile(rb'"finish_reason"\s*:\s*"([a-z_]{1,40})"')
# Inside a JSON string the quotes would be escaped, so that an answer about usage does not match.
_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_TEXT = re.compile(rb'"(?:content|text|reasoning|reasoning_content|arguments)"\s*:\s*"[^"]')
# vLLM answers what comes while it shuts down by an answer that it aborts at once.
ABORTED = re.compile(rb'"finish_reason"\s*:\s*"abort"')
_ERROR = re.compile(rb'"error"\s*:|' + ABORTED.pattern)
_SAYS = re.compile(rb'"(?:tool_calls|function_call|error|usage)"\s*:\s*[\[{"]')


class Event:
    """One event as it came, ``raw``, with its separator."""

    __slots__ = ("raw",)

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    @property
    def is_done(self) -> bool:
        """The stream's closing ``data: [DONE]``."""
        return _DONE.fullmatch(self.raw) is not None

    @property
    def has_text(self) -> bool:
        """Whether it carries a piece of an answer, which is one token unless the server was held up."""
        return _TEXT.search(self.raw) is not None

    @property
    def is_opening(self) -> bool:
        """Whether it says nothing yet: a comment, or the role alone."""
        return not (self.is_done or self.has_text or self.finish_reason or _SAYS.search(self.raw))

    @property
    def finish_reason(self) -> str | None:
        """Why a choice ended, in the event that ends it."""
        found = _FINISH.search(self.raw)
        return found[1].decode() if found else None

    def parse(self) -> dict[str, Any]:
        """Its data as a JSON object; empty when it is none."""
        lines = [line[5:] for line in self.raw.splitlines() if line.startswith(b"data:")]
        try:
            data = json.loads(b"\n".join(lines))
        except ValueError:
            return {}
        return data if isinstance(data, dict) else {}

    def usage(self) -> dict[str, Any] | None:
        """The token counts, where it carries them."""
        if not _USAGE.search(self.raw):
            return None
        usage = self.parse().get("usage")
        return usage if isinstance(usage, dict) else None

    def error(self) -> dict[str, Any] | None:
        """The error that the upstream reports in its stream, where this is one."""
        if not _ERROR.search(self.raw):
            return None
        data = self.parse()
        if ABORTED.search(self.raw) and data.get("choices"):
            return {"message": "The model server stopped before the answer's end.", "code": 503}
        if not data.get("error") or data.get("choices"):
            return None
        return data["error"] if isinstance(data["error"], dict) else {"message": str(data["error"])}

    def is_only_usage(self) -> bool:
        """The extra event that ``include_usage`` makes: token counts and no choice."""
        return self.usage() is not None and not self.parse().get("choices")


async def split(chunks: AsyncIterator[bytes]) -> AsyncIterator[list[Event]]:
    """The complete events of each chunk as it comes; what follows the last separator is no event.

    Raises:
        OpenAIError: 502, when an event grows without an end.
    """
    rest = b""
    async for chunk in chunks:
        *whole, rest = _cut(rest + chunk)
        if len(rest) > LARGEST_EVENT:
            raise OpenAIError(502, "The model server sent an event without an end.")
        if whole:
            yield [Event(raw) for raw in whole]


def error_event(error: OpenAIError) -> bytes:
    """``error`` as an event: how a stream that has begun says that it will not end well."""
    return b"data: " + json.dumps(error.body()).encode() + b"\n\n"


def _cut(data: bytes) -> list[bytes]:
    """``data`` cut after each separator; the last piece has none."""
    places = [found.end() for found in _BOUNDARY.finditer(data)]
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]
