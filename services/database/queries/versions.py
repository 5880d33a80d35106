"""Versions: the registry's entries as the gateway reads them, and their state."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.database.queries.bots import insert_once
from services.database.tables import Version, VersionState, now

# What the registry decides; the rest (state, verdict) is ours and survives a repair.
_FROM_REGISTRY = ("base", "revision", "rank", "sha256", "method", "run_id", "job_id", "dataset_digest")


async def get(session: AsyncSession, bot: str, number: int) -> Version | None:
    """One version, retired ones too."""
    return await session.get(Version, (bot, number), populate_existing=True)


async def all_versions(session: AsyncSession, bot: str | None = None) -> Sequence[Version]:
    """Every version, or those of one bot; by bot and number."""
    versions = select(Version).order_by(Version.bot, Version.number)
    return (await session.scalars(versions if bot is None else versions.where(Version.bot == bot))).all()


async def of_job(session: AsyncSession, job_id: str) -> Version | None:
    """The version that a fine-tune made, once it has registered it."""
    found = select(Version).where(Version.job_id == job_id).order_by(Version.number.desc()).limit(1)
    return (await session.scalars(found)).first()


async def upsert(session: AsyncSession, bot: str, number: int, person_id: str, tags: dict[str, Any]) -> bool:
    """Write what the registry says of a version; True when it is new here (state ``ungated``).

    ``tags`` has the registry's columns: base, revision, rank, sha256, method, run_id, job_id and
    dataset_digest, and figures for a new row.
    """
    row = {key: tags.get(key) for key in _FROM_REGISTRY}
    fresh = row | {
        "bot": bot,
        "number": number,
        "person_id": person_id,
        "state": "ungated",
        "figures": tags.get("figures"),
        "created_at": now(),
    }
    if await insert_once(session, Version, fresh):
        return True
    here = update(Version).where(Version.bot == bot, Version.number == number)
    changed = or_(*(getattr(Version, key).is_distinct_from(value) for key, value in row.items()))
    await session.execute(here.where(changed).values(**row))
    return False


async def set_verdict(
    session: AsyncSession,
    bot: str,
    number: int,
    state: VersionState,
    *,
    figures: dict[str, Any],
    sentence: str,
    note: str,
) -> bool:
    """Write a gate's verdict; False when there is no such version, or it is retired."""
    here = update(Version).where(Version.bot == bot, Version.number == number, Version.state != "retired")
    values = {"state": state, "figures": figures, "sentence": sentence, "note": note}
    written = await session.execute(here.values(**values).returning(Version.number))
    return written.one_or_none() is not None
