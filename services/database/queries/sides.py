"""On which side conversations are, learned from or held out: what the datasets of a bot say of them."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from services.database.tables import Dataset


async def recorded(session: AsyncSession, bot: str) -> dict[str, bool]:
    """Every conversation that a dataset of ``bot`` had, by key: True where it was held out each time.

    What was learned from once was learned from, whatever a later dataset said of it.
    """
    sides: dict[str, bool] = {}
    for sources in await session.scalars(select(Dataset.sources).where(Dataset.bot == bot)):
        for source in sources:
            key = str(source["conversation_key"])
            sides[key] = sides.get(key, True) and bool(source["held_out"])
    return sides
