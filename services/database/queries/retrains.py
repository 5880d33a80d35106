"""Datasets that were made of what people said, and which of them were trained on."""

from collections.abc import Sequence

from sqlalchemy import Select, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from services.database.tables import Dataset, Retrain, RetrainState, Version, new_id, now


async def claim(session: AsyncSession, bot: str, digest: str, author: str) -> tuple[Retrain, bool]:
    """The one retrain of ``bot`` on dataset ``digest``, and whether this call made it.

    Of two schedulers that ask at once, one makes the row and both get it.
    """
    moment = now()
    values = {
        "id": new_id("retrain_"),
        "bot": bot,
        "dataset_digest": digest,
        "state": "claimed",
        "author": author,
        "created_at": moment,
        "updated_at": moment,
    }
    dialect = session.get_bind().dialect.name
    insert = postgresql.insert(Retrain) if dialect == "postgresql" else sqlite.insert(Retrain)
    once = insert.values(**values).on_conflict_do_nothing(index_elements=["bot", "dataset_digest"])
    made = (await session.execute(once.returning(Retrain.id))).one_or_none()
    row = (await session.scalars(_of(bot).where(Retrain.dataset_digest == digest))).one()
    return row, made is not None


async def change(
    session: AsyncSession, retrain_id: str, state: RetrainState, job_id: str | None, reason: str | None
) -> Retrain | None:
    """Write how a retrain went on; None when there is none of that id."""
    row = await session.get(Retrain, retrain_id, with_for_update=True)
    if row is not None:
        row.state, row.job_id, row.reason, row.updated_at = state, job_id or row.job_id, reason, now()
        await session.flush()
    return row


async def page(session: AsyncSession, bot: str | None, limit: int) -> Sequence[Retrain]:
    """The last ``limit`` retrains, of one bot or of all, the newest first."""
    rows = select(Retrain) if bot is None else _of(bot)
    return (await session.scalars(rows.order_by(Retrain.created_at.desc(), Retrain.id).limit(limit))).all()


async def last_started(session: AsyncSession, bot: str) -> Retrain | None:
    """The newest retrain of ``bot`` that became a fine-tune."""
    started = _of(bot).where(Retrain.state == "started").order_by(Retrain.updated_at.desc()).limit(1)
    return (await session.scalars(started)).first()


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
