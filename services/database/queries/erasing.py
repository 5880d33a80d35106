"""Erasure: a person's words, or one conversation's, leave the database; a tombstone says so for ever.

A tombstone covers what was written before it. It is appended first and applied as often as it takes: to what
is there, to what was on its way meanwhile, and to whatever a restored backup brings back. What stays are ids,
digests, counts and usage.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, CursorResult, and_, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.dml import Delete, Update

from services.database.queries.bots import insert_once
from services.database.tables import (
    Comparison,
    Completion,
    Dataset,
    Feedback,
    File,
    Tombstone,
    TombstoneKind,
    new_id,
    now,
)

# What of a completion are words, or what tells of its person.
_TEXTS = (Completion.messages, Completion.answer, Completion.request, Completion.error)
FINE_TUNE = "fine-tune"


@dataclass
class Erased:
    """How many rows lost their words."""

    completions: int = 0
    feedback: int = 0
    comparisons: int = 0
    uploads: int = 0

    def __add__(self, other: "Erased") -> "Erased":
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Erased(*(one + another for one, another in pairs))


@dataclass(frozen=True)
class Grave:
    """Whose words before which moment: everything of ``person_id``, or one conversation's (``key``)."""

    person_id: str
    key: str | None
    before: datetime

    @classmethod
    def of(cls, tombstone: Tombstone) -> "Grave":
        """What ``tombstone`` covers."""
        person_id, _, key = tombstone.subject.partition("/")
        return cls(person_id, key if tombstone.kind == "conversation" else None, tombstone.created_at)

    def holds(self, table: type[Completion | Feedback | Comparison]) -> ColumnElement[bool]:
        """Whether a row of ``table`` is covered."""
        found = and_(table.person_id == self.person_id, table.created_at <= self.before)
        return found if self.key is None else and_(found, table.conversation_key == self.key)


async def bury(
    session: AsyncSession, kind: TombstoneKind, person_id: str, author: str, key: str | None = None
) -> Tombstone:
    """Append a tombstone for what was said until now; ``key`` names the conversation of that kind."""
    subject = person_id if key is None else f"{person_id}/{key}"
    row = Tombstone(id=new_id("tomb_"), kind=kind, subject=subject, author=author, created_at=now())
    session.add(row)
    await session.flush()
    return row


async def merge(session: AsyncSession, rows: Iterable[dict[str, Any]]) -> int:
    """Add tombstones that were kept elsewhere; how many were not here."""
    added = [await insert_once(session, Tombstone, row) for row in rows]
    return sum(added)


async def tombstones(session: AsyncSession, since: datetime | None = None) -> Sequence[Tombstone]:
    """All tombstones, or those from ``since`` on; the oldest first."""
    rows = select(Tombstone).order_by(Tombstone.created_at, Tombstone.id)
    return (await session.scalars(rows if since is None else rows.where(Tombstone.created_at >= since))).all()


async def replay(session: AsyncSession, rows: Iterable[Tombstone]) -> Erased:
    """Apply tombstones; what they cover and still finds is erased, and counted."""
    erased = Erased()
    for row in rows:
        erased += await _apply(session, Grave.of(row))
    return erased


async def uploads(session: AsyncSession, rows: Iterable[Tombstone]) -> set[str]:
    """The files, deleted or not, that people whose every word was erased had uploaded by hand.

    What ``jobs.curate`` made of many people's words goes by what it was made of, not by who uploaded it.
    """
    curated = await _curated(session)
    found: set[str] = set()
    for grave in (Grave.of(row) for row in rows if row.kind == "person"):
        found.update(await session.scalars(select(File.id).where(*_uploaded(grave))))
    return found - curated


async def conversation_people(session: AsyncSession, key: str, person_id: str | None) -> Sequence[str]:
    """Who took part in a conversation: ``person_id`` if they did, or (None) everybody."""
    rows = select(Completion.person_id).where(Completion.conversation_key == key).distinct()
    return (
        await session.scalars(rows if person_id is None else rows.where(Completion.person_id == person_id))
    ).all()


async def _apply(session: AsyncSession, grave: Grave) -> Erased:
    theirs = select(Completion.id).where(grave.holds(Completion))
    # What others said about their answers was said about their words.
    said = or_(grave.holds(Feedback), Feedback.completion_id.in_(theirs))
    erased = Erased(
        feedback=await _run(session, delete(Feedback).where(said)),
        comparisons=await _run(session, delete(Comparison).where(grave.holds(Comparison))),
        completions=await _forget(session, grave),
    )
    if grave.key is None:
        erased.uploads = await _delete_uploads(session, grave)
    return erased


async def _forget(session: AsyncSession, grave: Grave) -> int:
    """Take the words out of their completions; that they were asked, and the usage, stay."""
    kept = or_(Completion.stored, *(column.is_not(None) for column in _TEXTS))
    theirs = select(Completion.id).where(grave.holds(Completion), kept)
    # In the order in which gateways lock the rows that they close, so that nobody waits in a circle.
    await session.execute(theirs.order_by(Completion.id).with_for_update())
    emptied = update(Completion).where(grave.holds(Completion), kept)
    nothing = dict.fromkeys((column.key for column in _TEXTS), None)
    return await _run(session, emptied.values(stored=False, **nothing))


async def _delete_uploads(session: AsyncSession, grave: Grave) -> int:
    here = update(File).where(
        *_uploaded(grave), File.deleted_at.is_(None), File.id.not_in(await _curated(session))
    )
    return await _run(session, here.values(deleted_at=now()))


def _uploaded(grave: Grave) -> tuple[ColumnElement[bool], ...]:
    return (
        File.person_id == grave.person_id,
        File.purpose == FINE_TUNE,
        File.created_at <= grave.before,
    )


async def _curated(session: AsyncSession) -> set[str]:
    columns = (Dataset.training_file, Dataset.validation_file, Dataset.preference_file, Dataset.label_file)
    return {str(id_) for row in await session.execute(select(*columns)) for id_ in row if id_}


async def _run(session: AsyncSession, statement: Update | Delete) -> int:
    result = await session.execute(statement.execution_options(synchronize_session=False))
    return result.rowcount if isinstance(result, CursorResult) else 0
