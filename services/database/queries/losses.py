"""Datasets that lost a source to an erasure: their files go, and versions that learned from it are marked.

Found by what is missing, so that it does not matter when a dataset was recorded: before the erasure, while it
went on, or by a restored backup.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from services.database.queries.lineage import existing
from services.database.tables import Bot, Dataset, File, Retrain, Version, now


class Loss(NamedTuple):
    """A dataset with erased sources, whose ``files`` all go.

    ``learned`` says whether one of them was in the training file; ``read``, whether in that or in the
    validation file, which are all that a fine-tune and its judging ever read.
    """

    bot: str
    digest: str
    files: tuple[str, ...]
    learned: bool
    read: bool


async def losses(session: AsyncSession) -> list[Loss]:
    """Every dataset that lost a source."""
    rows = (await session.scalars(select(Dataset))).all()
    wanted = {str(source["id"]) for row in rows for source in row.sources}
    there = await existing(session, sorted(wanted))
    found = []
    for row in rows:
        lost = [source for source in row.sources if source["id"] not in there]
        if lost:
            learned = any(map(_is_learned, lost))
            read = learned or any(source["held_out"] for source in lost)
            found.append(Loss(row.bot, row.digest, _files(row), learned, read))
    return found


async def learned_from_lost(session: AsyncSession, row: Dataset) -> bool:
    """Whether a rating in the training file of ``row`` was erased: only then is it other rows without it."""
    return await _lost(session, filter(_is_learned, row.sources))


async def has_lost(session: AsyncSession, row: Dataset) -> bool:
    """Whether any rating of ``row`` was erased: its files go, or are gone."""
    return await _lost(session, row.sources)


async def _lost(session: AsyncSession, sources: Iterable[Mapping[str, Any]]) -> bool:
    ids = {str(source["id"]) for source in sources}
    return len(await existing(session, sorted(ids))) < len(ids)


async def settle(session: AsyncSession, lost: Iterable[Loss]) -> list[Version]:
    """Delete the files' rows, mark the versions; every version that was trained or judged on such words."""
    concerned: list[Version] = []
    for loss in lost:
        gone = update(File).where(File.id.in_(loss.files), File.deleted_at.is_(None))
        await session.execute(gone.values(deleted_at=now()))
        await _unclaim(session, loss)
        if loss.read:
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


async def cancelled(session: AsyncSession, job_id: str) -> None:
    """A fine-tune was cancelled by an erasure: what is left of its rows may be trained on again."""
    await session.execute(delete(Retrain).where(Retrain.job_id == job_id))


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


async def _unclaim(session: AsyncSession, loss: Loss) -> None:
    """A claim's files are made once under its name; now that they are gone, it takes another claim."""
    claim = delete(Retrain).where(Retrain.bot == loss.bot, Retrain.dataset_digest == loss.digest)
    await session.execute(claim.where(Retrain.state == "claimed"))


def _is_learned(source: Mapping[str, Any]) -> bool:
    """Whether a dataset's source is in its training file, which no blind choice ever is."""
    learned = source.get("learned")
    return bool(source["kind"] == "feedback" and not source["held_out"] if learned is None else learned)


def _files(row: Dataset) -> tuple[str, ...]:
    files = (row.training_file, row.validation_file, row.preference_file, row.label_file)
    return tuple(file for file in files if file)


def _note(version: Version) -> str:
    head = f"# {version.bot}@{version.number}"
    told = f"\n\n{version.sentence}" if version.sentence else ""
    return f"{head}{told}\n\nWhat this note quoted was erased.\n"
