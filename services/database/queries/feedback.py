"""Feedback: ratings and corrections, read in pages with a cursor."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from services.database.tables import Completion, Feedback, FeedbackState, new_id, now


def first_said(rating: int | None, correction: str | None) -> dict[str, Any]:
    """The columns that keep what a person first said: a thumb, or a correction, which is a thumb down.

    Empty where they said neither.
    """
    if rating is None and correction is None:
        return {}
    return {"first_rating": -1 if rating is None else rating, "rated_at": now()}


async def add(
    session: AsyncSession,
    person_id: str,
    completion: Completion,
    *,
    rating: int | None,
    correction: str | None,
    comment: str | None,
) -> Feedback:
    """What ``person_id`` says about an answer; who answered is copied from the completion."""
    row = Feedback(
        id=new_id("fb_"),
        person_id=person_id,
        completion_id=completion.id,
        conversation_key=completion.conversation_key,
        bot=completion.bot,
        version=completion.version,
        rating=rating,
        correction=correction,
        comment=comment,
        **first_said(rating, correction),
    )
    session.add(row)
    await session.flush()
    return row


async def of(session: AsyncSession, person_id: str, completion_id: str) -> Feedback | None:
    """What this person said about this answer, kept from being changed until the transaction ends."""
    theirs = select(Feedback).where(Feedback.person_id == person_id, Feedback.completion_id == completion_id)
    return (await session.scalars(theirs.with_for_update().limit(1))).first()


async def page(
    session: AsyncSession,
    person_id: str | None,
    *,
    after: tuple[datetime, str] | None,
    limit: int,
    bot: str | None = None,
    state: FeedbackState | None = None,
) -> Sequence[Feedback]:
    """Up to ``limit`` rows changed after the cursor (``updated_at``, ``id``), the oldest change first.

    A row that is changed comes again; of one person, or (None) of everybody.
    """
    rows = select(Feedback).order_by(Feedback.updated_at, Feedback.id).limit(limit)
    if after is not None:
        rows = rows.where(tuple_(Feedback.updated_at, Feedback.id) > after)
    wanted = {Feedback.person_id: person_id, Feedback.bot: bot, Feedback.state: state}
    for column, value in wanted.items():
        if value is not None:
            rows = rows.where(column == value)
    return (await session.scalars(rows)).all()


async def change(session: AsyncSession, row: Feedback, **values: object) -> None:
    """Write ``values`` and move the row to the end of the cursor's order."""
    for key, value in values.items():
        setattr(row, key, value)
    row.updated_at = now()
    await session.flush()
