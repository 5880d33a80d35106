"""What came in since a bot's trial began: ratings, blind choices, conversations by arm, answers in shadow.

Only conversations that began in the trial count, for the others were answered by whatever was served then.
Everything comes in the order in which it came in, and of what is bounded the first is given: so what is
there stays as it is when more comes. Where an answer fails later, though, its conversation counts as failed.
"""

from collections.abc import Sequence
from datetime import datetime
from itertools import takewhile
from typing import Any

from sqlalchemy import ColumnElement, Label, and_, case, exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from services.database.tables import Bot, Comparison, Completion, Decision, Feedback, Version

Rows = Sequence[Any]
"""Rows of named columns."""
SHOWN = ("champion", "candidate", "base")
"""Arms by which a bot's own name is answered."""


async def decisions(session: AsyncSession, bot: Bot, limit: int = 1000) -> list[Decision]:
    """The decisions of the present trial, the newest first: a trial is one candidate at one share."""
    if bot.candidate is None:
        return []
    newest = select(Decision).where(Decision.bot == bot.name).order_by(Decision.generation.desc())
    now = (bot.champion, bot.candidate, bot.share, bot.shadow)
    rows = (await session.scalars(newest.limit(limit))).all()
    return list(takewhile(lambda row: (row.champion, row.candidate, row.share, row.shadow) == now, rows))


async def untried(session: AsyncSession, bot: Bot) -> int | None:
    """The newest version that passed, unless it was tried or served before, or is older than the champion."""
    passed = Version.bot == bot.name, Version.state == "passed", Version.erased_at.is_(None)
    number = await session.scalar(select(func.max(Version.number)).where(*passed))
    if number is None or number <= (bot.champion or 0):
        return None
    known = or_(Decision.candidate == number, Decision.champion == number)
    tried = await session.scalar(select(exists().where(Decision.bot == bot.name, known)))
    return None if tried else number


async def passed(session: AsyncSession, bot: Bot) -> bool:
    """Whether the gate passed the version on trial; False without a trial."""
    version = Version.bot == bot.name, Version.number == bot.candidate, Version.state == "passed"
    return bool(await session.scalar(select(exists().where(*version))))


async def erased(session: AsyncSession, bot: Bot) -> Sequence[int]:
    """Which of champion and candidate learned from words that were erased since."""
    served = Version.bot == bot.name, Version.number.in_([bot.champion, bot.candidate])
    found = select(Version.number).where(*served, Version.erased_at.is_not(None))
    return (await session.scalars(found.order_by(Version.number))).all()


async def ratings(session: AsyncSession, bot: Bot, since: datetime) -> Rows:
    """What people first said of the trial's answers, in the order in which they said it.

    Columns: person_id (who rated), asked_by and conversation_key (what was rated), version, first_rating and
    rated_at. What they changed later does not count, and comments alone do not. What an owner rejected is
    left out, also when it was there before: that is a person's decision on the evidence.
    """
    # An older image beside this database writes neither column: what it wrote stands for them.
    corrected = case((Feedback.correction.is_not(None), -1))
    first_rating = func.coalesce(Feedback.first_rating, Feedback.rating, corrected)
    rated_at = func.coalesce(Feedback.rated_at, Feedback.created_at)
    said = (
        select(
            Feedback.person_id,
            Completion.person_id.label("asked_by"),
            Completion.conversation_key,
            Completion.version,
            first_rating.label("first_rating"),
            rated_at.label("rated_at"),
        )
        .join(Completion, Completion.id == Feedback.completion_id)
        .where(*_of_trial(bot, since))
        .where(Feedback.state != "rejected", first_rating.is_not(None))
        .order_by("rated_at", Feedback.id)
    )
    return (await session.execute(said)).all()


async def choices(session: AsyncSession, bot: Bot, since: datetime) -> Sequence[Comparison]:
    """Choices between champion and candidate in comparisons that began since, in the order made."""
    first, second = Comparison.first_version, Comparison.second_version
    either = or_(
        and_(_is(first, bot.champion), second == bot.candidate),
        and_(first == bot.candidate, _is(second, bot.champion)),
    )
    chosen = select(Comparison).where(
        Comparison.bot == bot.name, Comparison.created_at >= since, Comparison.choice.is_not(None), either
    )
    return (await session.scalars(chosen.order_by(Comparison.chosen_at, Comparison.id))).all()


async def conversations(session: AsyncSession, bot: Bot, since: datetime, limit: int) -> Rows:
    """The first ``limit`` conversations of the trial, each with its first answer.

    Columns: person_id, version, ended_at, status, ttft_ms, completion_tokens, and ``failures``, how many of
    the conversation's answers failed.
    """
    of_one = Completion.person_id, Completion.conversation_key
    ranked = (
        select(
            Completion.id,
            Completion.person_id,
            Completion.version,
            _ended_at(Completion),
            Completion.status,
            Completion.ttft_ms,
            Completion.completion_tokens,
            func.sum(case((_failed(Completion), 1), else_=0)).over(partition_by=of_one).label("failures"),
            func.row_number()
            .over(partition_by=of_one, order_by=(Completion.created_at, Completion.id))
            .label("turn"),
        )
        .where(*_of_trial(bot, since), Completion.status != "open")
        .subquery()
    )
    first = select(ranked).where(ranked.c.turn == 1).order_by(ranked.c.ended_at, ranked.c.id).limit(limit)
    return (await session.execute(first)).all()


async def shadows(session: AsyncSession, bot: Bot, since: datetime, limit: int) -> Rows:
    """The first ``limit`` answers in shadow, each beside what was shown.

    Columns: ended_at, shown_tokens, shown_failed, tokens, failed. A shadow that failed has a row only where
    the candidate is why; where an answer failed, there are no tokens.
    """
    shown = aliased(Completion)
    pairs = (
        select(
            _ended_at(Completion),
            _tokens(shown).label("shown_tokens"),
            _failed(shown).label("shown_failed"),
            _tokens(Completion).label("tokens"),
            or_(Completion.status == "failed", _failed(Completion)).label("failed"),
        )
        .join(shown, shown.id == Completion.shadow_of)
        .where(
            Completion.bot == bot.name, Completion.version == bot.candidate, Completion.created_at >= since
        )
        .where(Completion.arm == "shadow", shown.status.in_(("done", "failed")))
        .order_by("ended_at", Completion.id)
        .limit(limit)
    )
    return (await session.execute(pairs)).all()


def _of_trial(bot: Bot, since: datetime) -> tuple[ColumnElement[bool], ...]:
    earlier = aliased(Completion)
    began_before = exists().where(
        earlier.conversation_key == Completion.conversation_key,
        earlier.person_id == Completion.person_id,
        earlier.bot == bot.name,
        earlier.created_at < since,
    )
    return (
        Completion.bot == bot.name,
        Completion.created_at >= since,
        Completion.arm.in_(SHOWN),
        or_(_is(Completion.version, bot.champion), Completion.version == bot.candidate),
        ~began_before,
    )


def _failed(row: type[Completion]) -> ColumnElement[bool]:
    """No answer by our fault (a caller's mistake is a 400), or an empty one: its end alone is a token."""
    return or_(
        and_(row.status == "failed", row.status_code >= 500),
        and_(row.status == "done", row.completion_tokens <= 1),
    )


def _ended_at(row: type[Completion]) -> Label[datetime]:
    """When an answer came in; one of which that is not known came at once."""
    return func.coalesce(row.finished_at, row.created_at).label("ended_at")


def _tokens(row: type[Completion]) -> ColumnElement[int | None]:
    return case((row.status == "done", row.completion_tokens))


def _is(column: Any, number: int | None) -> ColumnElement[bool]:
    same: ColumnElement[bool] = column.is_(None) if number is None else column == number
    return same
