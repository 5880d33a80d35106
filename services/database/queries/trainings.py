"""Which fine-tunes hold a card: written by control, read by gateways while nothing serves."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.database.tables import Training, now


async def replace(session: AsyncSession, running: Sequence[Training]) -> None:
    """Make ``running`` the fine-tunes that hold a card now, and no others."""
    await session.execute(delete(Training).where(Training.job_id.not_in([row.job_id for row in running])))
    for row in running:
        await session.merge(row)


async def ends(session: AsyncSession) -> datetime | None:
    """When the first of them is expected to let go of its card; None when nobody knows."""
    ahead = select(func.min(Training.until)).where(Training.until > now())
    return (await session.scalars(ahead)).one_or_none()
