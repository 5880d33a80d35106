"""Blind comparisons: two answers to one message, and which of them a person chose."""

from collections.abc import Sequence

from sqlalchemy import and_, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.database.tables import Choice, Comparison, Completion, new_id, now


async def add(
    session: AsyncSession, person_id: str, bot: str, first: Completion, second: Completion
) -> Comparison:
    """A comparison in the order shown; which versions answered is copied from the completions."""
    row = Comparison(
        id=new_id("cmp_"),
        person_id=person_id,
        bot=bot,
        conversation_key=first.conversation_key,
        first_id=first.id,
        second_id=second.id,
        first_version=first.version,
        second_version=second.version,
    )
    session.add(row)
    await session.flush()
    return row


async def of_pair(session: AsyncSession, first_id: str, second_id: str) -> Comparison | None:
    """The comparison of these two completions, in whichever order they were shown."""
    one, other = Comparison.first_id, Comparison.second_id
    either = or_(
        and_(one == first_id, other == second_id),
        and_(one == second_id, other == first_id),
    )
    return (await session.scalars(select(Comparison).where(either).limit(1))).first()


async def bot_of(session: AsyncSession, completion_id: str) -> str | None:
    """The bot in whose comparison an answer was shown; None when it was in none."""
    shown = or_(Comparison.first_id == completion_id, Comparison.second_id == completion_id)
    return (await session.scalars(select(Comparison.bot).where(shown).limit(1))).first()


async def lock(session: AsyncSession, comparison_id: str) -> Comparison | None:
    """A comparison, kept from being chosen in by somebody else until the transaction ends."""
    return await session.get(Comparison, comparison_id, populate_existing=True, with_for_update=True)


async def choose(session: AsyncSession, row: Comparison, choice: Choice) -> None:
    """Write the choice."""
    row.choice, row.chosen_at = choice, now()
    await session.flush()


async def passed_over(session: AsyncSession, completion_ids: Sequence[str]) -> set[str]:
    """Those of these completions that the conversation did not go on with, for the other was chosen.

    After a tie it goes on with the first.
    """
    chosen = select(Comparison).where(
        Comparison.choice.is_not(None),
        or_(Comparison.first_id.in_(completion_ids), Comparison.second_id.in_(completion_ids)),
    )
    rows = (await session.scalars(chosen)).all()
    return {str(row.first_id if row.choice == "second" else row.second_id) for row in rows}
