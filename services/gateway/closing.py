"""How a record ends, from what the upstream said: the answer with its counts and reason, or an error."""

import json
from collections.abc import Mapping
from typing import Any

from common.openai_errors import OpenAIError
from services.gateway import answers
from services.gateway.record import Record

_LARGEST_COUNT = 2**31 - 1  # PostgreSQL's integer
_LONGEST_REASON = 40  # the column's width


def close_done(
    record: Record, usage: Mapping[str, Any], finish_reason: str | None, answer: dict[str, Any] | None
) -> None:
    """Close ``record`` as done; ``answer`` stays only where text is stored."""
    record.close(
        "done",
        finish_reason=str(finish_reason)[:_LONGEST_REASON] if finish_reason else None,
        answer=answer if record.values["stored"] else None,
        **_counts(usage),
    )


def close_whole(record: Record, body: bytes) -> None:
    """Close ``record`` with the answer that came in one piece.

    Raises:
        OpenAIError: 502, it is none.
    """
    response = _object(body)
    record.take_id(response.get("id"))
    reasons = [choice.get("finish_reason") for choice in response.get("choices") or ()]
    close_done(record, response.get("usage") or {}, reasons[0] if reasons else None, answers.whole(response))


def close_failed(record: Record, error: OpenAIError) -> None:
    """Close ``record`` as failed. The upstream's words may quote the request, so they count as its text."""
    words = error.message if record.values["stored"] else error.code or error.type
    record.close("failed", status_code=error.status, error=words)


def _counts(usage: Mapping[str, Any]) -> dict[str, Any]:
    """The row's token columns; exact when the upstream said them."""
    counts = {f"{kind}_tokens": _count(usage.get(f"{kind}_tokens")) for kind in ("prompt", "completion")}
    return {**counts, "tokens_exact": None not in counts.values()}


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and 0 <= value <= _LARGEST_COUNT else None


def _object(body: bytes) -> dict[str, Any]:
    try:
        response = json.loads(body)
    except ValueError:
        response = None
    if not isinstance(response, dict):
        raise OpenAIError(
            502, "The model server's answer is not a JSON object.", headers={"Retry-After": "5"}
        )
    return response
