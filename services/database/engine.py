"""One pool of connections for a process: SQLite (one machine) or PostgreSQL (a cluster)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Connection, event, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from common.errors import UserError

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
}
CONNECT_SECONDS = 5
_PRAGMAS = (
    "busy_timeout = 5000",
    "journal_mode = WAL",
    "synchronous = NORMAL",
    "foreign_keys = ON",
    "secure_delete = ON",  # words that were erased are overwritten, not left in free pages
)


class Database:
    """The database behind ``url``; connects at the first use.

    Raises:
        UserError: the URL is malformed or of another database.
    """

    def __init__(self, url: str) -> None:
        self.url = parse_url(url)
        self.engine = create_engine(self.url)
        self._writing = async_sessionmaker(self.engine, expire_on_commit=False)
        # SQLite: readers begin without the write lock, so that they never wait for a writer.
        self._reading = async_sessionmaker(
            self.engine.execution_options(reading=True), expire_on_commit=False
        )

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """A transaction that may write: committed at the end, rolled back by an exception."""
        async with self._writing.begin() as session:
            yield session

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A session that only reads: one snapshot, never waiting for SQLite's writer."""
        async with self._reading() as session:
            yield session

    async def ping(self) -> None:
        """One round trip; raises what SQLAlchemy or the driver raises when the database is away."""
        async with self.engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Close every connection of the pool."""
        await self.engine.dispose()


def parse_url(url: str) -> URL:
    """``url`` with the asynchronous driver that we use, whichever driver it names."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise UserError(
            "DATABASE_URL is not a database URL: write sqlite+aiosqlite:///./onggi.db or "
            "postgresql+asyncpg://user:password@host:5432/onggi"
        ) from None
    kind = parsed.get_backend_name()
    if kind not in _DRIVERS:
        raise UserError(f"DATABASE_URL names {kind}: use sqlite+aiosqlite or postgresql+asyncpg")
    if kind == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise UserError("DATABASE_URL names SQLite in memory, which one connection sees alone: name a file")
    return parsed.set(drivername=_DRIVERS[kind])


def create_engine(url: URL, **options: Any) -> AsyncEngine:
    """An engine with our settings for either database; ``options`` go to SQLAlchemy."""
    options = {"hide_parameters": True} | options  # errors reach the log, and rows hold people's words
    if url.get_backend_name() == "sqlite":
        engine = create_async_engine(url, connect_args={"timeout": CONNECT_SECONDS}, **options)
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
        return engine
    pool: dict[str, Any] = {"pool_size": 10, "max_overflow": 10, "pool_timeout": CONNECT_SECONDS}
    return create_async_engine(
        url,
        pool_pre_ping=True,
        connect_args={"timeout": CONNECT_SECONDS, "server_settings": {"application_name": "onggi"}},
        **(pool | options),
    )


def _prepare_sqlite(connection: Any, _: Any) -> None:
    # The driver must not begin transactions of its own: _begin_sqlite does.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes later fails at once when another wrote in between
    # (SQLITE_BUSY_SNAPSHOT, which busy_timeout does not help): take the write lock at the beginning.
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN DEFERRED" if reading else "BEGIN IMMEDIATE")
