import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, make_url, select, text

from common.errors import UserError
from services.database.engine import Database
from services.database.tables import Base, Feedback, Person
from services.database.upgrade import head, upgrade
from tests import postgres
from tests.ports import free_port


def _differences(connection: Connection) -> list[Any]:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return list(compare_metadata(context, Base.metadata))


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/new/onggi.db"
    return postgres.fresh_database(request.getfixturevalue("postgres_url"))


async def test_migrations_make_exactly_the_tables_that_the_code_declares(database: Database) -> None:
    async with database.engine.connect() as connection:
        assert await connection.run_sync(_differences) == []


async def test_several_that_migrate_an_empty_database_at_once_all_find_it_at_head(empty_url: str) -> None:
    assert await asyncio.gather(*(upgrade(empty_url) for _ in range(3))) == [head()] * 3
    database = Database(empty_url)
    async with database.engine.connect() as connection:
        tables = await connection.run_sync(lambda sync: inspect(sync).get_table_names())
        assert await connection.scalar(text("SELECT count(*) FROM alembic_version")) == 1
    await database.close()
    assert set(tables) == {*Base.metadata.tables, "alembic_version"}


async def test_ratings_of_before_count_as_what_was_said_first(
    database: Database, database_url: str, owner: Person
) -> None:
    async with database.session() as session:
        for id_, said in (("up", {"rating": 1}), ("put right", {"correction": "No."}), ("word", {})):
            session.add(Feedback(id=id_, person_id=owner.id, conversation_key="talk", **said))
    async with database.engine.begin() as connection:
        for column in ("first_rating", "rated_at"):
            await connection.execute(text(f"ALTER TABLE feedback DROP COLUMN {column}"))
        await connection.execute(text("UPDATE alembic_version SET version_num = '0003'"))
    assert await upgrade(database_url) == head()
    async with database.read() as session:
        rows = {row.id: row for row in await session.scalars(select(Feedback))}
    assert {id_: row.first_rating for id_, row in rows.items()} == {"up": 1, "put right": -1, "word": None}
    assert rows["up"].rated_at == rows["up"].created_at


async def test_a_database_newer_than_the_image_is_left_as_it_is(
    database: Database, database_url: str
) -> None:
    async with database.engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        await connection.execute(text("ALTER TABLE people ADD COLUMN nickname TEXT"))
    assert await upgrade(database_url) == "9999"
    async with database.session() as session:
        await session.execute(text("SELECT nickname FROM people"))


async def test_a_database_that_never_answers_is_a_sentence_without_its_password() -> None:
    url = f"postgresql://onggi:geheim@127.0.0.1:{free_port()}/onggi"
    with pytest.raises(UserError, match="does not answer") as error:
        await upgrade(url, wait_seconds=0.1)
    assert "geheim" not in str(error.value)


async def test_a_database_that_starts_later_is_waited_for(postgres_url: str) -> None:
    url = make_url(postgres_url).set(database="later").render_as_string(hide_password=False)
    waiting = asyncio.create_task(upgrade(url, wait_seconds=20))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    await asyncio.to_thread(postgres.execute, postgres_url, "CREATE DATABASE later")
    assert await waiting == head()


def test_the_command_migrates_and_exits_with_0_and_a_wrong_url_with_2(tmp_path: Path) -> None:
    def run(url: str) -> subprocess.CompletedProcess[str]:
        environ = {**os.environ, "DATABASE_URL": url}
        command = [sys.executable, "-m", "services.database", "upgrade"]
        return subprocess.run(command, env=environ, text=True, capture_output=True, timeout=60)

    done = run(f"sqlite:///{tmp_path}/onggi.db")
    assert done.returncode == 0, done.stderr
    assert f'"revision": "{head()}"' in done.stdout
    refused = run("mysql://h/d")
    assert refused.returncode == 2
    assert refused.stderr == "error: DATABASE_URL names mysql: use sqlite+aiosqlite or postgresql+asyncpg\n"
