"""Every test here that asks for ``database`` runs on SQLite and on PostgreSQL."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from services.database.engine import Database
from services.database.tables import Person, new_id
from tests import databases


@pytest.fixture(scope="session")
def fresh_sqlite(tmp_path_factory: pytest.TempPathFactory) -> databases.Fresh:
    return databases.sqlite(tmp_path_factory.mktemp("sqlite"))


@pytest.fixture(scope="session")
def fresh_postgresql(postgres_url: str) -> databases.Fresh:
    return databases.postgresql(postgres_url)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    fresh: databases.Fresh = request.getfixturevalue(f"fresh_{request.param}")
    return fresh()


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url)
    yield opened
    await opened.close()


@pytest_asyncio.fixture
async def owner(database: Database) -> Person:
    person = Person(id=new_id("person_"), name="Ada", role="owner")
    async with database.session() as session:
        session.add(person)
    return person


@pytest_asyncio.fixture
async def member(database: Database) -> Person:
    person = Person(id=new_id("person_"), name="Ben", role="member")
    async with database.session() as session:
        session.add(person)
    return person
