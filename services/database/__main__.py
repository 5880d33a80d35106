"""Migrate the database that ``DATABASE_URL`` names.

python -m services.database upgrade             wait for it, then bring it up to this image's revision
python -m services.database revision MESSAGE    write a revision after a change of tables.py
python -m services.database replay-tombstones   after a restore, before anything is served: erase again what
                                                the backup brought back (with STORE_URL also later ones)

``upgrade`` replays the tombstones that are in the database itself.
"""

import argparse
import asyncio

from common import errors, logging
from common.errors import UserError
from common.settings import load
from common.storage import StorageUnavailable, open_store
from services.database.engine import Database, create_engine, parse_url
from services.database.settings import DatabaseSettings
from services.database.tombstones import replay
from services.database.upgrade import revise, upgrade


def main() -> None:
    """Parse the command line and run one of the commands."""
    parser = argparse.ArgumentParser(prog="python -m services.database", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("upgrade", help="bring the database up to this image's revision")
    commands.add_parser("revision", help="write a new revision").add_argument("message")
    commands.add_parser("replay-tombstones", help="erase again what a restored backup brought back")
    arguments = parser.parse_args()
    logging.configure("database")
    settings = load(DatabaseSettings)
    at = asyncio.run(upgrade(settings.database_url, settings.database_wait_seconds))
    if arguments.command == "revision":
        asyncio.run(_revise(settings.database_url, arguments.message))
        return
    asyncio.run(_replay(settings, with_store=arguments.command == "replay-tombstones"))
    logging.get("system").info("database ready", revision=at)


async def _replay(settings: DatabaseSettings, *, with_store: bool) -> None:
    database = Database(settings.database_url)
    store = open_store(settings.store_url) if with_store and settings.store_url else None
    try:
        erased = await replay(database, store)
    except StorageUnavailable as error:
        raise UserError(f"{error}: what was erased since the backup is not known without it") from None
    finally:
        await database.close()
    logging.get("system").info("tombstones replayed", **vars(erased))


async def _revise(url: str, message: str) -> None:
    engine = create_engine(parse_url(url))
    async with engine.connect() as connection:
        await connection.run_sync(revise, message)
    await engine.dispose()


if __name__ == "__main__":
    errors.run(main)
