"""One completion on its way into the database."""

import asyncio
import re
import time
import uuid
from datetime import timedelta
from typing import Any

from services.database.tables import CompletionStatus, now
from services.gateway.requests import CompletionRequest
from services.gateway.served import Target

LEASE = timedelta(seconds=15)
# An id that we may keep as it is: Ollama counts to 999, others send none.
_UNIQUE_ID = re.compile(r"[A-Za-z0-9_.:-]{20,64}")
_BAD = re.compile("[\x00\ud800-\udfff]")


class Record:
    """A completion's row while it is being served, and how far the database has got with it.

    ``values`` are the row's columns. ``tokens`` counts what was streamed. ``attempted`` says that a write
    was tried, so that a row of this id may be ours; ``committed`` that one was seen to succeed.
    """

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values
        self.began = time.perf_counter()
        self.opened_at: float | None = None
        self.tokens = 0
        self.attempted = False
        self.committed = False
        self.closed = False
        self.saved: asyncio.Future[None] | None = None

    @property
    def id(self) -> str:
        """The completion's id."""
        return str(self.values["id"])

    @property
    def status(self) -> CompletionStatus:
        """Open until it is closed."""
        status: CompletionStatus = self.values["status"]
        return status

    def take_id(self, given: object) -> None:
        """Use the upstream's id, which the caller sees in every event, if it looks unique."""
        if isinstance(given, str) and _UNIQUE_ID.fullmatch(given):
            self.values["id"] = given

    def rename(self) -> None:
        """Take an id of our own: the upstream's was used before."""
        self.values["id"] = new_id()

    def first_byte(self) -> None:
        """Note the time to the first token."""
        self.values["ttft_ms"] = self._elapsed_ms()

    def close(self, status: CompletionStatus, **values: Any) -> None:
        """Give the row its final values; the token count is exact when ``completion_tokens`` says so."""
        self.closed = True
        self.values.update(
            status=status, latency_ms=self._elapsed_ms(), lease_until=None, finished_at=now(), **clean(values)
        )
        if self.values["completion_tokens"] is None:
            self.values["completion_tokens"] = self.tokens

    def row(self) -> dict[str, Any]:
        """The row to insert now."""
        lease = None if self.closed else now() + LEASE
        return {**self.values, "lease_until": lease}

    def _elapsed_ms(self) -> float:
        return round((time.perf_counter() - self.began) * 1000, 3)


def new_id() -> str:
    """A completion id of our own."""
    return f"chatcmpl-{uuid.uuid4().hex}"


def begin(
    request: CompletionRequest,
    target: Target,
    *,
    person_id: str,
    key_id: str | None,
    conversation: str,
    stored: bool,
    gateway_id: str,
    trace_id: str | None,
    shadow_of: str | None = None,
) -> Record:
    """The record of a request that is about to go upstream; ``shadow_of`` was shown in its place."""
    values = dict.fromkeys(
        ("answer", "prompt_tokens", "completion_tokens", "ttft_ms", "latency_ms", "finish_reason", "error")
    )
    return Record(
        {
            **values,
            "id": new_id(),
            "person_id": person_id,
            "key_id": key_id,
            "conversation_key": conversation,
            "model": request.model,
            "bot": target.bot,
            "version": target.version,
            "arm": target.arm,
            "status": "open",
            "gateway_id": gateway_id,
            "stream": request.stream,
            "stored": stored,
            "messages": clean(request.upstream["messages"]) if stored else None,
            "request": clean(_told(request, stored)),
            "tokens_exact": False,
            "status_code": 200,
            "prompt_version": None,
            "trace_id": trace_id,
            "shadow_of": shadow_of,
            "created_at": now(),
            "finished_at": None,
        }
    )


def _told(request: CompletionRequest, stored: bool) -> dict[str, Any] | None:
    """What is kept of the request besides its messages; what may hold text, only where text is stored."""
    told = {name: value for name, value in request.told.items() if stored or name != "metadata"}
    if stored:
        asked = {
            name: value
            for name, value in request.upstream.items()
            if name not in ("messages", "stream_options")
        }
        told["parameters"] = asked
    return told or None


def clean(value: Any) -> Any:
    """``value`` without what PostgreSQL's JSON refuses: NUL and halves of surrogate pairs become U+FFFD."""
    if isinstance(value, str):
        return _BAD.sub("\ufffd", value)
    if isinstance(value, dict):
        return {clean(name): clean(item) for name, item in value.items()}
    return [clean(item) for item in value] if isinstance(value, list) else value
