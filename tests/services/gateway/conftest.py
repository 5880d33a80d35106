"""A real gateway on a real port, with a real database, in front of FakeUpstream."""

import asyncio
import io
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from logging import getLogger
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from openai import AsyncOpenAI
from sqlalchemy import make_url, select

from common import logging
from services.database.credentials import new_key
from services.database.engine import Database
from services.database.tables import Bot, Completion, Person, Version, new_id
from services.database.upgrade import upgrade
from services.gateway.app import create_app
from services.gateway.settings import GatewaySettings
from tests.postgres import fresh_database
from tests.services.gateway.fake_upstream import BASE, FakeUpstream, serving

SECRET = "a-secret-for-tests-of-32-bytes-or-more"


@pytest.fixture(autouse=True, scope="session")
def logs() -> Iterator[io.StringIO]:
    """The processes' logs as they are in production, kept out of the tests' output."""
    root = getLogger()
    handlers, level, output = root.handlers, root.level, io.StringIO()
    logging.configure("gateway", stream=output)
    yield output
    root.handlers, root.level = handlers, level


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite database, to be copied."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    asyncio.run(upgrade(f"sqlite+aiosqlite:///{path}"))
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres_url: str) -> str:
    """A migrated PostgreSQL database, to be copied."""
    url = fresh_database(postgres_url)
    asyncio.run(upgrade(url))
    return url


@pytest.fixture
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A migrated database of the test's own: SQLite, unless the test asks for ``postgresql``."""
    if getattr(request, "param", "sqlite") == "postgresql":
        template = make_url(request.getfixturevalue("postgres_template")).database or ""
        return fresh_database(request.getfixturevalue("postgres_url"), template)
    path = shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "onggi.db")
    return f"sqlite+aiosqlite:///{path}"


both_databases = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)


@dataclass
class House:
    """A gateway and what is around it. ``key`` belongs to the owner, ``member_key`` to a member."""

    url: str
    settings: GatewaySettings
    database: Database
    upstream: FakeUpstream
    key: str
    member_key: str
    clients: dict[str, AsyncOpenAI] = field(default_factory=dict)

    def client(self, key: str | None = None, **options: Any) -> AsyncOpenAI:
        """The official SDK, without its own retries."""
        given = f"{key} {options}"
        if given not in self.clients:
            url = f"{self.url}/v1"
            self.clients[given] = AsyncOpenAI(base_url=url, api_key=key or self.key, max_retries=0, **options)
        return self.clients[given]

    async def close(self) -> None:
        """Close the clients."""
        for client in self.clients.values():
            await client.close()

    async def rows(self, **equal: Any) -> list[Completion]:
        """The completion rows, oldest first."""
        async with self.database.session() as session:
            found = await session.scalars(
                select(Completion).filter_by(**equal).order_by(Completion.created_at)
            )
            return list(found)

    async def row(self, **equal: Any) -> Completion:
        """The only completion row."""
        [row] = await self.rows(**equal)
        return row


async def eventually(check: Callable[[], Awaitable[Any]], seconds: float = 8.0) -> Any:
    """What ``check`` gives as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (found := await check()):
        assert time.monotonic() < deadline, "it did not come to be in time"
        await asyncio.sleep(0.02)
    return found


@asynccontextmanager
async def listening(settings: GatewaySettings, **options: Any) -> AsyncIterator[str]:
    """Run a gateway in this process, as uvicorn runs it; yields its URL."""
    config = uvicorn.Config(
        create_app(settings, **options),
        host="127.0.0.1",
        port=0,
        http="httptools",
        lifespan="on",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    serving_task = asyncio.create_task(server.serve())
    while not server.started:
        assert not serving_task.done(), "the gateway did not start"
        await asyncio.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving_task


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with serving(FakeUpstream()) as fake:
        yield fake


@pytest.fixture
async def house(database_url: str, upstream: FakeUpstream) -> AsyncIterator[House]:
    """A gateway whose bot ``support-bot`` has versions 1 (champion), 2 (refused) and 3 (retired)."""
    database = Database(database_url)
    key, member_key = await fill(database)
    settings = GatewaySettings(
        vllm_base_url=upstream.url,
        database_url=database_url,
        jwt_secret_key=SECRET,
        default_model=BASE,
        upstream_api_key="",
    )
    async with listening(settings) as url:
        made = House(url, settings, database, upstream, key, member_key)
        yield made
        await made.close()
    await database.close()


async def fill(database: Database) -> tuple[str, str]:
    """An owner, a member, a key each, and two bots; returns the keys."""
    owner = Person(id=new_id("person_"), name="Ada", role="owner")
    member = Person(id=new_id("person_"), name="Ben", role="member")
    async with database.session() as session:
        session.add_all([owner, member])
        await session.flush()
        keys = [new_key(person.id, "test") for person in (owner, member)]
        session.add_all([row for row, _ in keys])
        session.add(Bot(name="support-bot", person_id=owner.id, base=BASE, champion=1, generation=1))
        session.add(Bot(name="new-bot", person_id=owner.id, base=BASE))
        await session.flush()
        for number, state in ((1, "passed"), (2, "refused"), (3, "retired")):
            session.add(_version(owner.id, number, state))
    return keys[0][1], keys[1][1]


def _version(person_id: str, number: int, state: Any) -> Version:
    return Version(
        bot="support-bot",
        number=number,
        person_id=person_id,
        base=BASE,
        revision="r",
        rank=8,
        sha256="s",
        state=state,
    )
