"""Conversations: stored completions that share a conversation key."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.database.tables import Completion, Feedback

# What is kept of what a person saw.
_SHOWN = (Completion.stored, Completion.shadow_of.is_(None))


class Summary(NamedTuple):
    """One conversation of one person in a list."""

    conversation_key: str
    turns: int
    started_at: datetime
    last_at: datetime
    model: str


async def page(session: AsyncSession, person_id: str, *, limit: int, offset: int) -> list[Summary]:
    """A person's stored conversations, the last used first."""
    last = func.max(Completion.created_at)
    mine = select(
        Completion.conversation_key,
        func.count(),
        func.min(Completion.created_at),
        last,
        func.max(Completion.model),
    ).where(Completion.person_id == person_id, *_SHOWN)
    grouped = mine.group_by(Completion.conversation_key).order_by(last.desc(), Completion.conversation_key)
    return [Summary(*row) for row in (await session.execute(grouped.limit(limit).offset(offset))).all()]


async def turns(session: AsyncSession, key: str, person_id: str | None) -> Sequence[Completion]:
    """The stored completions of a conversation in order; of one person, or (None) of everybody."""
    stored = select(Completion).where(Completion.conversation_key == key, *_SHOWN)
    if person_id is not None:
        stored = stored.where(Completion.person_id == person_id)
    return (await session.scalars(stored.order_by(Completion.created_at, Completion.id))).all()


async def feedback_on(session: AsyncSession, completion_ids: Sequence[str]) -> dict[str, list[Any]]:
    """The feedback on each of these completions, the oldest first."""
    rows = select(Feedback).where(Feedback.completion_id.in_(completion_ids))
    found: dict[str, list[Any]] = {completion_id: [] for completion_id in completion_ids}
    for row in await session.scalars(rows.order_by(Feedback.created_at, Feedback.id)):
        found[str(row.completion_id)].append(row)
    return found
