"""Uploaded files: their rows; the bytes are in the object store."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.database.tables import File, now


async def get(session: AsyncSession, file_id: str, person_id: str | None) -> File | None:
    """A file that is not deleted; of ``person_id`` only, unless None."""
    file = await session.get(File, file_id)
    if file is None or file.deleted_at is not None or person_id not in (None, file.person_id):
        return None
    return file


async def page(
    session: AsyncSession,
    person_id: str | None,
    *,
    purpose: str | None = None,
    after: str | None = None,
    limit: int,
    newest_first: bool = True,
) -> Sequence[File]:
    """Up to ``limit`` files after the file ``after``, of one person or (None) of everybody."""
    files = select(File).where(File.deleted_at.is_(None)).limit(limit)
    if person_id is not None:
        files = files.where(File.person_id == person_id)
    if purpose is not None:
        files = files.where(File.purpose == purpose)
    place = tuple_(File.created_at, File.id)
    if after is not None:
        start = select(File.created_at, File.id).where(File.id == after).scalar_subquery()
        files = files.where(place < start if newest_first else place > start)
    order = (File.created_at.desc(), File.id.desc()) if newest_first else (File.created_at, File.id)
    return (await session.scalars(files.order_by(*order))).all()


async def existing(session: AsyncSession, file_ids: Sequence[str]) -> set[str]:
    """Which of these ids are taken, by deleted files too."""
    return set(await session.scalars(select(File.id).where(File.id.in_(file_ids))))


async def delete(session: AsyncSession, file_id: str) -> None:
    """Mark a file as deleted; its row stays, with its digest."""
    await session.execute(update(File).where(File.id == file_id).values(deleted_at=now()))


async def deletions(session: AsyncSession, file_ids: Iterable[str]) -> dict[str, datetime | None]:
    """When each of these files was deleted; None for one that has no row (yet)."""
    found: dict[str, datetime | None] = dict.fromkeys(file_ids)
    rows = await session.execute(select(File.id, File.deleted_at).where(File.id.in_(list(found))))
    return found | dict(rows.tuples().all())
