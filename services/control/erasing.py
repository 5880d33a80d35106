"""Erasing words: first from the database, with a tombstone, then wherever copies of them lie.

The answer comes when all of it is done, or says what waits: the store, MLflow or the cluster may be away, and
``settle``, which runs again and again, does what is left. It finds that by what is missing in the database,
so nothing is lost by a restart or a restore.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from common import logging
from common.openai_errors import OpenAIError, not_found
from common.storage import StorageUnavailable
from services.control import copies
from services.control.context import Control
from services.control.copies import Remains
from services.control.shapes.erasing import Erasure
from services.database import tombstones
from services.database.credentials import Caller
from services.database.queries import erasing, files, losses, served
from services.database.queries.erasing import Erased
from services.database.queries.losses import Loss
from services.database.tables import Person, Tombstone, now

# What was on its way while words were erased is in the database by then.
AFTERWARDS = timedelta(hours=1)
# Beside the names of copies: none is left that we know of; the store's tombstones are in the database.
EVERYTHING, STORE_READ = "everything", "tombstones of the store"


async def erase_person(control: Control, caller: Caller, person_id: str) -> Erasure:
    """Erase every word that a person said until now; the person stays and may go on.

    Raises:
        OpenAIError: 403, neither an owner nor the person; 404.
    """
    if not caller.is_owner and caller.person_id != person_id:
        raise OpenAIError(403, "Only an owner, or the person themselves, may erase a person's words.")
    async with control.database.session() as session:
        if await session.get(Person, person_id) is None:
            raise not_found(f"No person {person_id!r}: see GET /onggi/v1/people.", "id")
        row = await erasing.bury(session, "person", person_id, caller.name)
        erased = await erasing.replay(session, [row])
    return await _finish(control, [row], erased)


async def erase_conversation(control: Control, caller: Caller, key: str) -> Erasure:
    """Erase a conversation: the caller's own part of it or, by an owner, everybody's.

    Raises:
        OpenAIError: 404, there is none of theirs.
    """
    async with control.database.session() as session:
        whose = None if caller.is_owner else caller.person_id
        people = await erasing.conversation_people(session, key, whose)
        if not people:
            raise not_found(f"No conversation {key!r} of yours.", "id")
        rows = [await erasing.bury(session, "conversation", one, caller.name, key) for one in sorted(people)]
        erased = await erasing.replay(session, rows)
    return await _finish(control, rows, erased)


async def begin(control: Control) -> None:
    """Before anything is served: erase again what a restored database brought back.

    A store that is away is logged, and asked again by ``keep_settling``.
    """
    try:
        await _read_store(control)
    except (StorageUnavailable, OpenAIError) as error:
        logging.get("system").warning("tombstones in the store are read later", reason=str(error))
    async with control.database.session() as session:
        _say(await tombstones.replay_in(session))


async def settle(control: Control) -> list[str]:
    """Erase what came in late, and delete what is left of copies; a sentence for each thing that waits."""
    async with control.database.session() as session:
        _say(await erasing.replay(session, await erasing.tombstones(session, now() - AFTERWARDS)))
    async with control.database.read() as session:
        graves = await erasing.tombstones(session)
        lost = await losses.losses(
            session
        )  # takes a second where there is much: nobody waits for it to write
    async with control.database.session() as session:
        remains = await _remains(session, graves, lost)
    waiting = await copies.delete(control, graves, remains)
    if waiting:
        control.erased.discard(EVERYTHING)
    return waiting


async def keep_settling(control: Control) -> None:
    """One round in the background: settle for as long as something may come late, and what had to wait."""
    if STORE_READ not in control.erased:
        await _read_store(control)
        async with control.database.session() as session:
            _say(await tombstones.replay_in(session))
    async with control.database.read() as session:
        recent = await erasing.tombstones(session, now() - AFTERWARDS)
    if recent or EVERYTHING not in control.erased:
        waiting = await settle(control)
        for sentence in waiting:
            logging.get("system").warning("an erasure waits", reason=sentence)
        if not waiting:
            control.erased.add(EVERYTHING)
    await _retire(control)


async def _read_store(control: Control) -> None:
    """Add the tombstones that are in the store and, after a restore, not in the database."""
    store = await asyncio.to_thread(control.store)
    kept = await asyncio.to_thread(tombstones.kept, store)
    async with control.database.session() as session:
        await erasing.merge(session, kept)
    control.erased.add(STORE_READ)


def _say(erased: Erased) -> None:
    """Log what was erased besides a person's asking: restored by a backup, or on its way meanwhile."""
    if any(vars(erased).values()):
        logging.get("system").warning("erased again", **vars(erased))


async def _retire(control: Control) -> None:
    """Versions that learned from erased words go once what was trained without them is served."""
    async with control.database.session() as session:
        for version in await losses.replaced(session):
            await served.retire(session, version.bot, version.number)
            logging.get("system").info("retired after an erasure", model=f"{version.bot}@{version.number}")
    await copies.delete_adapters(control)


async def _remains(session: AsyncSession, graves: Sequence[Tombstone], lost: Sequence[Loss]) -> Remains:
    versions = await losses.settle(session, lost)
    uploads = await erasing.uploads(session, graves)
    ids = {file for loss in lost for file in loss.files} | uploads
    unread = {file for loss in lost if not loss.read for file in loss.files} - uploads
    deletions = await files.deletions(session, ids)
    return Remains(files=deletions, uploads=uploads, unread=unread, versions=versions)


async def _finish(control: Control, rows: Sequence[Tombstone], erased: Erased) -> Erasure:
    waiting = await settle(control)
    async with control.database.read() as session:
        lost = await losses.losses(session)
        marked = await losses.erased_versions(session)
    return Erasure(
        tombstones=[row.id for row in rows],
        **vars(erased),
        datasets=sorted({loss.digest for loss in lost}),
        versions=[f"{version.bot}@{version.number}" for version in marked],
        waiting=waiting,
    )
