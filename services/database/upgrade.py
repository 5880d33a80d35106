"""Bring a database up to this image's revision: wait for it, lock it, migrate it.

A database that is already newer than the image is left as it is and used (``helm rollback`` must start):
revisions expand first and contract in a later release, so an older image can use a newer database.
"""

import asyncio
import time
from logging import WARNING, getLogger
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from common import logging
from common.errors import UserError
from services.database.engine import create_engine, parse_url

_LOCK = 0x6F6E676769  # "onggi": one migration of this database at a time, whoever starts it
_RETRY_SECONDS = 1.0


async def upgrade(url: str, wait_seconds: float = 60.0) -> str:
    """Migrate the database at ``url`` to this image's head; returns the revision it is at afterwards.

    Raises:
        UserError: the database did not answer within ``wait_seconds``, or refuses us.
    """
    getLogger("alembic").setLevel(WARNING)  # it tells of its plugins at every start
    parsed = parse_url(url)
    _make_folder(parsed)
    engine = create_engine(parsed)
    try:
        await _wait(engine, time.monotonic() + wait_seconds)
        async with engine.begin() as connection:
            await _lock(connection)
            return await connection.run_sync(_migrate)
    finally:
        await engine.dispose()


def revise(connection: Connection, message: str) -> None:
    """Write a new revision from the difference between the tables and the database of ``connection``."""
    command.revision(_config(connection), message=message, autogenerate=True)


def head() -> str:
    """The revision of this image."""
    return ScriptDirectory.from_config(_config(None)).get_current_head() or "base"


def _make_folder(url: URL) -> None:
    if url.get_backend_name() == "sqlite" and url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)


async def _wait(engine: AsyncEngine, until: float) -> None:
    while True:
        try:
            async with engine.connect():
                return
        except (OSError, DBAPIError, TimeoutError) as error:
            if time.monotonic() >= until:
                raise UserError(_unreachable(engine.url, error)) from None
            logging.get("system").info("waiting for the database", error=type(error).__name__)
            await asyncio.sleep(_RETRY_SECONDS)


def _unreachable(url: URL, error: Exception) -> str:
    reason = str(getattr(error, "orig", None) or error) or type(error).__name__
    return f"the database {url.render_as_string(hide_password=True)} does not answer: {reason}"


async def _lock(connection: AsyncConnection) -> None:
    # SQLite needs none: the transaction began by taking its one write lock.
    if connection.dialect.name == "postgresql":
        await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


def _migrate(connection: Connection) -> str:
    config = _config(connection)
    at = MigrationContext.configure(connection).get_current_revision()
    known = {revision.revision for revision in ScriptDirectory.from_config(config).walk_revisions()}
    if at is not None and at not in known:
        logging.get("system").warning("database newer than this image: left as it is", at=at, image=head())
        return at
    command.upgrade(config, "head")
    return head()


def _config(connection: Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
