"""Datasets that were made of what people said, and which of them were trained on."""

from collections.abc import Sequence

from sqlalchemy import Select, delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.database.tables import Dataset, Retrain, RetrainState, Version, now


async def of(session: AsyncSession, bot: str) -> Sequence[Retrain]:
    """Every retrain of ``bot`` as it is now, the last that was heard of first."""
    rows = _of(bot).order_by(Retrain.updated_at.desc(), Retrain.id)
    return (await session.scalars(rows, execution_options={"populate_existing": True})).all()


async def claimed(session: AsyncSession, *, lock: bool = False) -> Sequence[Retrain]:
    """The retrains of every bot that became no fine-tune so far; ``lock`` keeps others from changing them."""
    rows = select(Retrain).where(Retrain.state == "claimed").order_by(Retrain.id)
    return (await session.scalars(rows.with_for_update() if lock else rows)).all()


async def change(
    session: AsyncSession, retrain_id: str, state: RetrainState, job_id: str | None, reason: str | None
) -> Retrain | None:
    """Write how a retrain went on; None when there is none of that id."""
    row = await session.get(Retrain, retrain_id, with_for_update=True)
    if row is not None:
        row.state, row.job_id, row.reason, row.updated_at = state, job_id or row.job_id, reason, now()
        await session.flush()
    return row


async def give_up(session: AsyncSession, retrain_id: str) -> None:
    """Take a claim back that became no fine-tune: nobody needs to wait for it."""
    await session.execute(delete(Retrain).where(Retrain.id == retrain_id, Retrain.state == "claimed"))


async def page(session: AsyncSession, bot: str | None, limit: int) -> Sequence[Retrain]:
    """The last ``limit`` retrains, of one bot or of all, the newest first."""
    rows = select(Retrain) if bot is None else _of(bot)
    return (await session.scalars(rows.order_by(Retrain.created_at.desc(), Retrain.id).limit(limit))).all()


async def dataset(session: AsyncSession, bot: str, digest: str) -> Dataset | None:
    """One of ``bot``'s datasets."""
    return await session.get(Dataset, (digest, bot))


async def record(session: AsyncSession, row: Dataset) -> Dataset:
    """Keep what a dataset was made of; recorded again, the files and sources are the later ones."""
    kept = await session.merge(row)
    await session.flush()
    return kept


async def erased(session: AsyncSession, bot: str) -> Sequence[Version]:
    """The versions of ``bot`` that were trained on words erased since, and still answer."""
    rows = select(Version).where(
        Version.bot == bot, Version.erased_at.is_not(None), Version.state != "retired"
    )
    return (await session.scalars(rows.order_by(Version.number))).all()


def _of(bot: str) -> Select[Retrain]:
    return select(Retrain).where(Retrain.bot == bot)
