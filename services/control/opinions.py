"""What people say about answers, and what they may read of it: their own words, an owner everybody's."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from common.openai_errors import OpenAIError, invalid, not_found
from services.control.shapes.feedback import FeedbackCreate, FeedbackUpdate
from services.database.credentials import Caller
from services.database.queries import comparisons, feedback
from services.database.tables import Completion, Feedback, FeedbackState, now

Cursor = tuple[datetime, str]


async def say(session: AsyncSession, caller: Caller, request: FeedbackCreate) -> Feedback:
    """Keep what the caller says about an answer; said again about the same answer, it replaces.

    Raises:
        OpenAIError: 404, no such answer of theirs; 400, a correction of an answer whose text is not stored;
            403, a member cannot accept.
    """
    completion = await session.get(Completion, request.completion_id)
    if completion is None or not (caller.is_owner or completion.person_id == caller.person_id):
        raise not_found(f"No completion {request.completion_id!r} of yours.", "completion_id")
    if request.correction is not None and not completion.stored:
        message = "This answer's text is not stored, so it cannot be corrected: ask with store: true."
        raise invalid(message, "correction")
    if request.state is not None and not caller.is_owner:
        raise _owners_only()
    said = request.model_dump(include={"rating", "correction", "comment"})
    row = await feedback.of(session, caller.person_id, completion.id)
    given = {key: value for key, value in said.items() if value is not None}
    if row is None:
        row = await feedback.add(session, caller.person_id, completion, **said)
        # A base that was compared was asked by its own name, on behalf of the bot.
        row.bot = row.bot or await comparisons.bot_of(session, completion.id)
    elif given:
        await feedback.change(session, row, **given, **_said_again(row, given))
    if request.state is not None:
        await feedback.change(session, row, **_reviewed(caller, request.state))
    return row


async def change(session: AsyncSession, caller: Caller, row_id: str, request: FeedbackUpdate) -> Feedback:
    """Change one's own words, or, as an owner, what became of anybody's.

    Raises:
        OpenAIError: 403, 404.
    """
    row = await session.get(Feedback, row_id)
    if row is None or not (caller.is_owner or row.person_id == caller.person_id):
        raise not_found(f"No feedback {row_id!r} of yours.", "id")
    given = request.model_dump(exclude_unset=True)
    if "state" in given and not caller.is_owner:
        raise _owners_only()
    if given.get("state", "") is None:
        raise invalid("state cannot be null: leave it out.", "state")
    await feedback.change(session, row, **(given | _became(caller, row, given)))
    return row


def _became(caller: Caller, row: Feedback, given: Mapping[str, Any]) -> dict[str, Any]:
    """What a change makes of the row's review."""
    if "state" in given:
        return _reviewed(caller, given["state"])
    if row.person_id != caller.person_id:
        return _reviewed(caller, "fixed") if given.get("correction") else {}
    return _said_again(row, given)


def _said_again(row: Feedback, given: Mapping[str, Any]) -> dict[str, Any]:
    """What becomes of a row whose person changes what they said; of their opinion the first one is kept."""
    if not {"rating", "correction"} & given.keys():
        return {}  # A comment is not learned from: it changes nothing that was accepted.
    return {**_unreviewed(), **_first(row, given)}


def _first(row: Feedback, given: Mapping[str, Any]) -> dict[str, Any]:
    """What to keep as first said, where nothing is kept yet: an older image keeps nothing."""
    if row.first_rating is not None:
        return {}
    if before := feedback.first_said(row.rating, row.correction):
        return before | {"rated_at": row.created_at}
    return feedback.first_said(given.get("rating"), given.get("correction"))


def _reviewed(owner: Caller, state: FeedbackState) -> dict[str, Any]:
    if state == "new":
        return _unreviewed()
    return {"state": state, "reviewed_by": owner.person_id, "reviewed_at": now()}


def _unreviewed() -> dict[str, Any]:
    return {"state": "new", "reviewed_by": None, "reviewed_at": None}


def _owners_only() -> OpenAIError:
    return OpenAIError(403, "Only an owner accepts or rejects feedback.", param="state")


def cursor(row: Feedback) -> str:
    """The place after ``row``, as it is sent."""
    return f"{row.updated_at.astimezone(UTC).isoformat()}~{row.id}"


def parse_cursor(text: str | None) -> Cursor | None:
    """A cursor that was sent.

    Raises:
        OpenAIError: 400.
    """
    if not text:
        return None
    moment, _, row_id = text.partition("~")
    try:
        time = datetime.fromisoformat(moment.replace(" ", "+"))
        return time.astimezone(UTC), row_id
    except ValueError:
        raise invalid(f"after = {text!r} is no cursor: send `next` of an earlier page.", "after") from None
