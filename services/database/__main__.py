"""Migrate the database that ``DATABASE_URL`` names.

python -m services.database upgrade             wait for it, then bring it up to this image's revision
python -m services.database revision MESSAGE    write a revision after a change of tables.py
"""

import argparse
import asyncio

from common import errors, logging
from common.settings import load
from services.database.engine import create_engine, parse_url
from services.database.settings import DatabaseSettings
from services.database.upgrade import revise, upgrade


def main() -> None:
    """Parse the command line and run one of the two commands."""
    parser = argparse.ArgumentParser(prog="python -m services.database", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("upgrade", help="bring the database up to this image's revision")
    commands.add_parser("revision", help="write a new revision").add_argument("message")
    arguments = parser.parse_args()
    logging.configure("database")
    settings = load(DatabaseSettings)
    at = asyncio.run(upgrade(settings.database_url, settings.database_wait_seconds))
    if arguments.command == "revision":
        asyncio.run(_revise(settings.database_url, arguments.message))
    else:
        logging.get("system").info("database ready", revision=at)


async def _revise(url: str, message: str) -> None:
    engine = create_engine(parse_url(url))
    async with engine.connect() as connection:
        await connection.run_sync(revise, message)
    await engine.dispose()


if __name__ == "__main__":
    errors.run(main)
