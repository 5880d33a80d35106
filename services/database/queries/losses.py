"""Datasets that lost a source to an erasure: their files go, and versions that learned from it are marked.

Found by what is missing, so that it does not matter when a dataset was recorded: before the erasure, while it
went on, or by a restored backup.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from services.database.tables import Bot, Comparison, Dataset, Feedback, File, Version, now

_AT_ONCE = 500  # ids in one statement
_TABLES: dict[str, type[Feedback | Comparison]] = {"feedback": Feedback, "comparison": Comparison}


class Loss(NamedTuple):
    """A dataset with erased sources; ``learned`` says whether one of them was trained on, not held out."""

    bot: str
    digest: str
    files: tuple[str, ...]
    learned: bool


async def losses(session: AsyncSession) -> list[Loss]:
    """Every dataset that lost a source."""
    rows = (await session.scalars(select(Dataset))).all()
    wanted = {(source["kind"], source["id"]) for row in rows for source in row.sources}
    gone = wanted - {pair for kind in _TABLES for pair in await _there(session, kind, wanted)}
    found = []
    for row in rows:
        lost = [source for source in row.sources if (source["kind"], source["id"]) in gone]
        if lost:
            learned = not all(source["held_out"] for source in lost)
            found.append(Loss(row.bot, row.digest, _files(row), learned))
    return found


async def settle(session: AsyncSession, lost: Iterable[Loss]) -> list[Version]:
    """Delete the files' rows, mark the versions; every version that was trained or judged on them."""
    concerned: list[Version] = []
    for loss in lost:
        await delete_files(session, loss.files)
        of = select(Version).where(Version.bot == loss.bot, Version.dataset_digest == loss.digest)
        rows = (await session.scalars(of)).all()
        mark(rows, learned=loss.learned)
        concerned += rows
    await session.flush()
    return concerned


def mark(versions: Iterable[Version], *, learned: bool) -> None:
    """Note that ``versions`` learned from words erased since, and empty the notes, which quote such words."""
    for version in versions:
        if learned and version.erased_at is None:
            version.erased_at = now()
        if version.note is not None:
            version.note = _note(version)


async def erased_versions(session: AsyncSession) -> Sequence[Version]:
    """The versions that learned from words erased since, and still answer."""
    rows = select(Version).where(Version.erased_at.is_not(None), Version.state != "retired")
    return (await session.scalars(rows.order_by(Version.bot, Version.number))).all()


async def retired_versions(session: AsyncSession) -> Sequence[Version]:
    """The versions that learned from words erased since, and are retired."""
    rows = select(Version).where(Version.erased_at.is_not(None), Version.state == "retired")
    return (await session.scalars(rows)).all()


async def of_jobs(session: AsyncSession, job_ids: Sequence[str]) -> Sequence[Version]:
    """The versions that these fine-tunes made."""
    return (await session.scalars(select(Version).where(Version.job_id.in_(job_ids)))).all()


async def delete_files(session: AsyncSession, file_ids: Sequence[str]) -> None:
    """Mark files as deleted that are not yet."""
    here = update(File).where(File.id.in_(file_ids), File.deleted_at.is_(None))
    await session.execute(here.values(deleted_at=now()))


async def replaced(session: AsyncSession) -> Sequence[Version]:
    """The erased versions whose bot is served by one that is not: they are to be retired."""
    champion = aliased(Version)
    rows = (
        select(Version)
        .join(Bot, Bot.name == Version.bot)
        .join(champion, (champion.bot == Bot.name) & (champion.number == Bot.champion))
        .where(Version.erased_at.is_not(None), Version.state != "retired")
        .where(champion.erased_at.is_(None), champion.number > Version.number)
        .where(or_(Bot.candidate.is_(None), Bot.candidate != Version.number))
    )
    return (await session.scalars(rows)).all()


async def _there(session: AsyncSession, kind: str, wanted: set[tuple[str, str]]) -> set[tuple[str, str]]:
    table = _TABLES[kind]
    ids = sorted(id_ for of, id_ in wanted if of == kind)
    found: set[tuple[str, str]] = set()
    for start in range(0, len(ids), _AT_ONCE):
        some = ids[start : start + _AT_ONCE]
        found |= {(kind, id_) for id_ in await session.scalars(select(table.id).where(table.id.in_(some)))}
    return found


def _files(row: Dataset) -> tuple[str, ...]:
    files = (row.training_file, row.validation_file, row.preference_file, row.label_file)
    return tuple(file for file in files if file)


def _note(version: Version) -> str:
    head = f"# {version.bot}@{version.number}"
    told = f"\n\n{version.sentence}" if version.sentence else ""
    return f"{head}{told}\n\nWhat this note quoted was erased.\n"
