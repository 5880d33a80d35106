"""What is served, as the gateway reads it."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from services.database.tables import Bot, Version


async def bots(session: AsyncSession) -> Sequence[Bot]:
    """Every bot's row."""
    return (await session.scalars(select(Bot).order_by(Bot.name))).all()


async def versions(session: AsyncSession) -> Sequence[Version]:
    """Every version that may be called: whatever the gate said, but not retired."""
    callable_ = select(Version).where(Version.state != "retired").order_by(Version.bot, Version.number)
    return (await session.scalars(callable_)).all()


async def retire(session: AsyncSession, bot: str, number: int) -> bool:
    """Take a version out of service for good, unless its bot serves it now.

    Returns whether it was retired: False when it is the champion or the candidate.

    Raises:
        LookupError: there is no such version, or it is retired already.
    """
    row = await session.get(Bot, bot, with_for_update=True)
    version = await session.get(Version, (bot, number))
    if row is None or version is None or version.state == "retired":
        raise LookupError(f"{bot}@{number}")
    if number in (row.champion, row.candidate):
        return False
    version.state = "retired"
    return True
