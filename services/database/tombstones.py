"""Tombstones beside the database, and their replay after a restore.

A backup of the database is older than the erasures that came after it, so each tombstone is also an object of
its own, ``tombstones/<id>.json``, which holds ids and a time and nobody's words.
"""

import json
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from common.storage import Store
from services.database.engine import Database
from services.database.queries import erasing, losses
from services.database.queries.erasing import Erased
from services.database.tables import Tombstone

FOLDER = "tombstones"


def keep(store: Store, row: Tombstone) -> None:
    """Write one to the store; again is the same. Blocks."""
    values = {"id": row.id, "kind": row.kind, "subject": row.subject, "author": row.author}
    values["created_at"] = row.created_at.isoformat()
    store.put_bytes(json.dumps(values, ensure_ascii=False).encode(), f"{FOLDER}/{row.id}.json")


def kept(store: Store) -> list[dict[str, Any]]:
    """All that the store has, as rows. Blocks."""
    read = [json.loads(store.get_bytes(key)) for key in store.list(FOLDER)]
    return [row | {"created_at": datetime.fromisoformat(row["created_at"])} for row in read]


async def replay(database: Database, store: Store | None) -> Erased:
    """Erase again whatever a restored database brought back; before anything is served from it.

    With a ``store`` also what was erased after the backup was made.
    """
    rows = kept(store) if store else []
    async with database.session() as session:
        await erasing.merge(session, rows)
        return await replay_in(session)


async def replay_in(session: AsyncSession) -> Erased:
    """Apply every tombstone that ``session`` sees, and mark what learned from what is gone."""
    erased = await erasing.replay(session, await erasing.tombstones(session))
    await losses.settle(session, await losses.losses(session))
    return erased
