"""Stored completions: the ones whose text was kept, as their owners list, read, change and delete them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sqlalchemy import ColumnElement, Select, and_, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.database.tables import Completion


@dataclass(frozen=True)
class Page:
    """Which stored completions to list, in order of their making.

    ``person_id`` None means everybody's; ``after`` is the id of the last one already seen.
    """

    person_id: str | None
    after: str | None = None
    limit: int = 20
    order: Literal["asc", "desc"] = "asc"
    model: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


async def page(session: AsyncSession, wanted: Page) -> tuple[Sequence[Completion], bool]:
    """The completions of ``wanted``, and whether more follow.

    Raises:
        LookupError: there is no completion ``after``.
    """
    rows = _visible(wanted.person_id).where(Completion.status != "open")
    if wanted.model is not None:
        rows = rows.where(Completion.model == wanted.model)
    for name, value in wanted.metadata.items():
        rows = rows.where(Completion.request["metadata"][name].as_string() == value)
    if wanted.after is not None:
        last = await get(session, wanted.after, wanted.person_id)
        rows = rows.where(_beyond(last, wanted.order))
    columns = (Completion.created_at, Completion.id)
    ordered = [column.desc() if wanted.order == "desc" else column.asc() for column in columns]
    found = (await session.scalars(rows.order_by(*ordered).limit(wanted.limit + 1))).all()
    return found[: wanted.limit], len(found) > wanted.limit


async def get(session: AsyncSession, id_: str, person_id: str | None) -> Completion:
    """One stored completion that ``person_id`` (None: an owner) may see.

    Raises:
        LookupError: there is none, it was not stored, or it is another person's.
    """
    row = await session.scalar(_visible(person_id).where(Completion.id == id_))
    if row is None:
        raise LookupError(id_)
    return row


async def set_metadata(
    session: AsyncSession, id_: str, person_id: str | None, metadata: Mapping[str, str] | None
) -> Completion:
    """Replace a stored completion's metadata.

    Raises:
        LookupError: as ``get``.
    """
    row = await get(session, id_, person_id)
    row.request = {**(row.request or {}), "metadata": dict(metadata or {})}
    return row


async def forget(session: AsyncSession, id_: str, person_id: str | None) -> None:
    """Delete a stored completion's text and metadata; that it was asked, and its usage, stay on record.

    Raises:
        LookupError: as ``get``.
    """
    row = await get(session, id_, person_id)
    shadows = (await session.scalars(select(Completion).where(Completion.shadow_of == id_))).all()
    for each in (row, *shadows):  # what was said unseen in its place quotes the same messages
        each.stored, each.messages, each.answer, each.request, each.error = False, None, None, None, None


def _visible(person_id: str | None) -> Select[Completion]:
    rows = select(Completion).where(Completion.stored.is_(True), Completion.shadow_of.is_(None))
    return rows if person_id is None else rows.where(Completion.person_id == person_id)


def _beyond(last: Completion, order: Literal["asc", "desc"]) -> ColumnElement[bool]:
    moment, id_ = Completion.created_at, Completion.id
    if order == "desc":
        return or_(moment < last.created_at, and_(moment == last.created_at, id_ < last.id))
    return or_(moment > last.created_at, and_(moment == last.created_at, id_ > last.id))
