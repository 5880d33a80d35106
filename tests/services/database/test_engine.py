import asyncio
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError, StatementError

from common.errors import UserError
from services.database.engine import Database, parse_url
from services.database.tables import Key, Person, new_id


def _person(**values: object) -> Person:
    return Person(**{"id": new_id("person_"), "name": "Ada", "role": "owner"} | values)


async def test_times_come_back_aware_in_utc_whatever_zone_they_were_given_in(database: Database) -> None:
    seoul = datetime(2026, 11, 22, 9, 0, tzinfo=timezone(timedelta(hours=9)))
    person = _person(created_at=seoul)
    async with database.session() as session:
        session.add(person)
    async with database.read() as session:
        found = await session.get(Person, person.id)
    assert found is not None
    assert found.created_at == datetime(2026, 11, 22, 0, 0, tzinfo=UTC)
    assert found.created_at.utcoffset() == timedelta(0)


async def test_a_time_without_a_zone_is_refused(database: Database) -> None:
    with pytest.raises(StatementError, match="has no zone"):
        async with database.session() as session:
            session.add(_person(created_at=datetime(2026, 11, 22)))


async def test_a_row_without_its_owner_is_refused_and_the_error_quotes_no_row(database: Database) -> None:
    key = Key(id="key_1", person_id="nobody", name="private words", prefix="sk", sha256="0" * 64)
    with pytest.raises(IntegrityError) as error:
        async with database.session() as session:
            session.add(key)
    assert "private words" not in str(error.value)


async def test_an_exception_rolls_the_transaction_back(database: Database) -> None:
    async def fail() -> None:
        async with database.session() as session:
            session.add(_person())
            await session.flush()
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        await fail()
    async with database.read() as session:
        assert (await session.scalars(select(Person))).all() == []


async def test_many_who_read_and_then_write_at_once_all_succeed(database: Database) -> None:
    async def add(number: int) -> None:
        async with database.session() as session:
            await session.scalars(select(Person))
            await asyncio.sleep(0.001)
            session.add(_person(name=str(number)))

    await asyncio.gather(*(add(number) for number in range(20)))
    async with database.read() as session:
        assert len((await session.scalars(select(Person))).all()) == 20


async def test_a_reader_does_not_wait_for_a_writer(database: Database) -> None:
    async with database.session() as writer:
        writer.add(_person())
        await writer.flush()
        async with asyncio.timeout(1), database.read() as reader:
            assert (await reader.scalars(select(Person))).all() == []


async def test_sqlite_runs_with_write_ahead_log_and_foreign_keys(fresh_sqlite) -> None:
    database = Database(fresh_sqlite())
    async with database.read() as session:
        settings = [await session.scalar(text(f"PRAGMA {name}")) for name in ("journal_mode", "foreign_keys")]
    await database.close()
    assert settings == ["wal", 1]


@pytest.mark.parametrize(
    ("given", "driver"),
    [
        ("sqlite:///./onggi.db", "sqlite+aiosqlite"),
        ("postgres://u:p@h/d", "postgresql+asyncpg"),
        ("postgresql+psycopg2://u:p@h/d", "postgresql+asyncpg"),
    ],
)
def test_whichever_driver_a_url_names_ours_is_used(given: str, driver: str) -> None:
    assert parse_url(given).drivername == driver


@pytest.mark.parametrize("url", ["mysql://h/d", "no url", "sqlite://", "sqlite:///:memory:"])
def test_a_database_that_cannot_be_used_is_refused_with_a_sentence(url: str) -> None:
    with pytest.raises(UserError, match="DATABASE_URL"):
        Database(url)
