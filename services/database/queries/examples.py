"""What people said that may be learned from, and what nobody has looked at yet: opinions with their texts."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import ColumnElement, Select, exists, func, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from services.database.tables import Comparison, Completion, Feedback, FeedbackState, now

Cursor = tuple[datetime, str]
REVIEWED: tuple[FeedbackState, ...] = ("accepted", "fixed")


class Said(NamedTuple):
    """Feedback with the completion that it is about, whose text is stored."""

    feedback: Feedback
    completion: Completion


class Chosen(NamedTuple):
    """A comparison with a choice and its two completions, whose texts are stored."""

    comparison: Comparison
    first: Completion
    second: Completion


async def said(
    session: AsyncSession, bot: str, *, after: Cursor | None, limit: int, unreviewed: bool = False
) -> Sequence[Said]:
    """Up to ``limit`` opinions on ``bot``'s answers that an owner accepted or fixed, by last change.

    With ``unreviewed`` also those that nobody looked at; rejected ones never.
    """
    states = (*REVIEWED, "new") if unreviewed else REVIEWED
    rows = (
        select(Feedback, Completion)
        .join(Completion, Completion.id == Feedback.completion_id)
        .where(Feedback.bot == bot, Feedback.state.in_(states), *_readable(Completion))
        .order_by(Feedback.updated_at, Feedback.id)
        .limit(limit)
    )
    if after is not None:
        rows = rows.where(tuple_(Feedback.updated_at, Feedback.id) > after)
    return [Said(*row) for row in (await session.execute(rows)).all()]


async def chosen(session: AsyncSession, bot: str, *, after: Cursor | None, limit: int) -> Sequence[Chosen]:
    """Up to ``limit`` blind choices between ``bot``'s answers, the oldest choice first."""
    first, second = aliased(Completion), aliased(Completion)
    rows = (
        select(Comparison, first, second)
        .join(first, first.id == Comparison.first_id)
        .join(second, second.id == Comparison.second_id)
        .where(Comparison.bot == bot, Comparison.choice.is_not(None), Comparison.chosen_at.is_not(None))
        .where(*_readable(first), *_readable(second))
        .order_by(Comparison.chosen_at, Comparison.id)
        .limit(limit)
    )
    if after is not None:
        rows = rows.where(tuple_(Comparison.chosen_at, Comparison.id) > after)
    return [Chosen(*row) for row in (await session.execute(rows)).all()]


async def corrections(session: AsyncSession, bot: str) -> list[str]:
    """The ids of the reviewed corrections of ``bot``'s answers: of several of one answer, the last."""
    rows = (
        select(Feedback.completion_id, Feedback.id)
        .join(Completion, Completion.id == Feedback.completion_id)
        .where(Feedback.bot == bot, Feedback.state.in_(REVIEWED), Feedback.correction.is_not(None))
        .where(*_readable(Completion))
        .order_by(Feedback.updated_at, Feedback.id)
    )
    last = dict((await session.execute(rows)).tuples().all())
    return list(last.values())


async def waiting(session: AsyncSession, bot: str) -> int:
    """How many opinions on ``bot``'s answers wait for an owner."""
    rows = select(func.count()).select_from(Feedback).where(Feedback.bot == bot, Feedback.state == "new")
    return int(await session.scalar(rows) or 0)


async def unseen(session: AsyncSession, bot: str, *, limit: int, days: float) -> Sequence[Completion]:
    """``limit`` of ``bot``'s answers of the last ``days`` that nobody said anything about.

    Drawn evenly at random from all of them, shown ones only: neither the newest, nor long conversations'
    first, nor one version's, so that what a reviewer sees is what people got.
    """
    rows = _unseen(bot).where(Completion.created_at > now() - timedelta(days=days))
    return (await session.scalars(rows.order_by(func.random()).limit(limit))).all()


def _unseen(bot: str) -> Select[Completion]:
    said = exists().where(Feedback.completion_id == Completion.id)
    compared = exists().where(
        or_(Comparison.first_id == Completion.id, Comparison.second_id == Completion.id)
    )
    shown = (Completion.status == "done", Completion.shadow_of.is_(None))
    return select(Completion).where(Completion.bot == bot, *shown, *_readable(Completion), ~said, ~compared)


def _readable(completion: type[Completion]) -> tuple[ColumnElement[bool], ...]:
    return completion.stored.is_(True), completion.messages.is_not(None), completion.answer.is_not(None)
