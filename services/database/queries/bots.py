"""What is served: one row a bot, changed by compare-and-swap, and the decisions that changed it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from services.database.tables import Action, Base, Bot, Decision, new_id, now


@dataclass(frozen=True)
class Served:
    """What a bot's row says is served: version numbers, the candidate's share (0 to 1), and by what rule."""

    base: str
    revision: str | None
    champion: int | None
    previous: int | None
    candidate: int | None = None
    share: float = 0.0
    shadow: bool = False
    pinned: bool = False


@dataclass(frozen=True)
class Author:
    """Who decided, as shown later; ``person_id`` None is the system."""

    person_id: str | None
    name: str


SYSTEM = Author(None, "onggi")


async def get(session: AsyncSession, name: str) -> Bot | None:
    """One bot's row as it is now, even if this session has read it before."""
    return await session.get(Bot, name, populate_existing=True)


async def lock(session: AsyncSession, name: str) -> Bot | None:
    """One bot's row, kept from being changed until this transaction ends (SQLite: it is the only writer).

    Whoever decides on a bot or retires one of its versions locks this row first, so that of two such
    transactions the later sees what the earlier did.
    """
    return await session.get(Bot, name, populate_existing=True, with_for_update=True)


async def all_bots(session: AsyncSession) -> Sequence[Bot]:
    """Every bot, by name."""
    return (await session.scalars(select(Bot).order_by(Bot.name))).all()


async def ensure(session: AsyncSession, name: str, person_id: str, base: str, revision: str | None) -> bool:
    """Make a bot that answers with its base, generation 0; False when it was there already."""
    values = {
        "name": name,
        "person_id": person_id,
        "base": base,
        "revision": revision,
        "share": 0.0,
        "shadow": False,
        "pinned": False,
        "generation": 0,
        "created_at": now(),
    }
    if not await insert_once(session, Bot, values):
        return False
    _append(session, name, 0, "create", Served(base, revision, None, None), SYSTEM, None, None)
    await session.flush()
    return True


async def swap(
    session: AsyncSession,
    name: str,
    generation: int,
    served: Served,
    action: Action,
    author: Author,
    *,
    reason: str | None = None,
    figures: dict[str, Any] | None = None,
) -> bool:
    """Compare-and-swap: write ``served`` if the row is still at ``generation``, and append the decision.

    False when another decision came first; nothing is written then. One UPDATE decides, so that of two
    callers with one generation exactly one wins, on either database.
    """
    here = update(Bot).where(Bot.name == name, Bot.generation == generation)
    won = await session.execute(
        here.values(
            base=served.base,
            revision=served.revision,
            champion=served.champion,
            previous=served.previous,
            candidate=served.candidate,
            share=served.share,
            shadow=served.shadow,
            pinned=served.pinned,
            generation=generation + 1,
        ).returning(Bot.generation)
    )
    if won.one_or_none() is None:
        return False
    _append(session, name, generation + 1, action, served, author, reason, figures)
    await session.flush()
    return True


async def decisions(session: AsyncSession, name: str, limit: int) -> Sequence[Decision]:
    """A bot's last ``limit`` decisions, the newest first."""
    newest = select(Decision).where(Decision.bot == name).order_by(Decision.generation.desc())
    return (await session.scalars(newest.limit(limit))).all()


async def insert_once(session: AsyncSession, table: type[Base], values: dict[str, Any]) -> bool:
    """Insert a row unless one with its key is there; whether it was inserted. No race, no error."""
    dialect = session.get_bind().dialect.name
    insert = postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
    keys = list(table.__table__.primary_key)
    inserted = await session.execute(insert.values(**values).on_conflict_do_nothing().returning(*keys))
    return inserted.one_or_none() is not None


def _append(
    session: AsyncSession,
    bot: str,
    generation: int,
    action: Action,
    served: Served,
    author: Author,
    reason: str | None,
    figures: dict[str, Any] | None,
) -> None:
    session.add(
        Decision(
            id=new_id("decision_"),
            bot=bot,
            generation=generation,
            action=action,
            champion=served.champion,
            previous=served.previous,
            candidate=served.candidate,
            share=served.share,
            shadow=served.shadow,
            pinned=served.pinned,
            figures=figures,
            reason=reason,
            person_id=author.person_id,
            author=author.name,
        )
    )
