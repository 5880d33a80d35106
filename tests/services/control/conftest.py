"""A real control on a real port, with a real database, store and (where asked for) MLflow.

Only ``jobs.finetune`` and ``jobs.evaluate``, which need minutes, are stand-ins (``stand_in/jobs``); the demo
runs the real ones.
"""

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from logging import getLogger
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from openai import AsyncOpenAI

from common import logging
from services.control.app import create_app
from services.control.context import Control, make_local_runner
from services.control.settings import ROOT, ControlSettings
from services.database import credentials
from services.database.engine import Database
from services.database.tables import Person, new_id
from tests import databases, mlflow_server
from tests.ports import free_port

BASE = "SmolLM2-135M-Instruct"
OWNER_KEY = "sk-the-owners"
JOB_TOKEN = "the-jobs-token"


@pytest.fixture(autouse=True, scope="session")
def logs() -> Iterator[io.StringIO]:
    """The process's logs as they are in production, kept out of the tests' output."""
    root = getLogger()
    handlers, level, output = root.handlers, root.level, io.StringIO()
    logging.configure("control", stream=output)
    yield output
    root.handlers, root.level = handlers, level


@pytest.fixture(scope="session")
def fresh_sqlite(tmp_path_factory: pytest.TempPathFactory) -> databases.Fresh:
    return databases.sqlite(tmp_path_factory.mktemp("sqlite"))


@pytest.fixture(scope="session")
def fresh_postgresql(postgres_url: str) -> databases.Fresh:
    return databases.postgresql(postgres_url)


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> str:
    """SQLite, unless the test asks for ``postgresql``."""
    fresh: databases.Fresh = request.getfixturevalue(f"fresh_{getattr(request, 'param', 'sqlite')}")
    return fresh()


@pytest.fixture(scope="session")
def mlflow() -> Iterator[str]:
    with mlflow_server.running() as url:
        yield url


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository as the runner sees it, with stand-ins for the jobs."""
    folder = tmp_path_factory.mktemp("root")
    for name in ("common", "services"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "jobs").symlink_to(Path(__file__).parent / "stand_in" / "jobs")
    return folder


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> ControlSettings:
    """Settings of a control of the test's own; there is a base model's folder, but no weights in it."""
    model = tmp_path / "models" / BASE
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    record = {"name": BASE, "revision": "sha256:1", "source": f"local:{model}", "sha256": {}}
    (model / "onggi.json").write_text(json.dumps(record))
    port = free_port()
    return ControlSettings(
        fastapi_port=port,
        database_url=database_url,
        api_key=OWNER_KEY,
        admin_username="ada",
        admin_password="a password",
        jwt_secret_key="a secret for sessions that is long enough",
        control_token=JOB_TOKEN,
        model_cache_dir=tmp_path / "models",
        store_url=str(tmp_path / "store"),
        jobs_dir=tmp_path / "jobs",
        mlflow_tracking_uri="http://127.0.0.1:9",
    )


@dataclass
class House:
    """A running control, and ways to ask it: as the owner, unless ``key`` says otherwise."""

    settings: ControlSettings
    control: Control
    http: httpx.AsyncClient = field(init=False)

    def __post_init__(self) -> None:
        self.http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.settings.fastapi_port}", timeout=30)

    @property
    def database(self) -> Database:
        return self.control.database

    def sdk(self, key: str = OWNER_KEY) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=f"{self.http.base_url}/v1", api_key=key, max_retries=0)

    async def ask(self, method: str, path: str, *, key: str = OWNER_KEY, **rest: Any) -> httpx.Response:
        return await self.http.request(method, path, headers={"Authorization": f"Bearer {key}"}, **rest)

    async def get(self, path: str, **rest: Any) -> Any:
        answer = await self.ask("GET", path, **rest)
        assert answer.is_success, answer.text
        return answer.json()

    async def post(self, path: str, body: Any, **rest: Any) -> Any:
        answer = await self.ask("POST", path, json=body, **rest)
        assert answer.is_success, answer.text
        return answer.json()

    async def refusal(self, method: str, path: str, **rest: Any) -> tuple[int, dict[str, Any]]:
        """The status and OpenAI's error of an answer that must be a refusal."""
        answer = await self.ask(method, path, **rest)
        assert not answer.is_success, answer.text
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return answer.status_code, error

    async def member(self, name: str = "Ben") -> tuple[str, str]:
        """A new member's id and key."""
        person = Person(id=new_id("person_"), name=name, role="member")
        row, secret = credentials.new_key(person.id, "test")
        async with self.database.session() as session:
            session.add(person)
            await session.flush()
            session.add(row)
        return person.id, secret


@contextlib.asynccontextmanager
async def serving(settings: ControlSettings, root: Path) -> AsyncIterator[House]:
    """Run control as its process does, until the block ends."""
    app = create_app(settings, make_local_runner(settings, root) if settings.runner == "local" else None)
    config = uvicorn.Config(app, port=settings.fastapi_port, log_config=None, lifespan="on")
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    while not server.started:
        assert not running.done(), "control did not start"
        await asyncio.sleep(0.01)
    house = House(settings, app.state.control)
    try:
        yield house
    finally:
        await house.http.aclose()
        server.should_exit = True
        await running


@pytest.fixture
async def house(settings: ControlSettings, root: Path) -> AsyncIterator[House]:
    async with serving(settings, root) as running:
        yield running
        assert running.control.runner is not None
        for job in running.control.runner.list():
            await asyncio.to_thread(running.control.runner.cancel, job.spec.id)


def rows(number: int, **extra: Any) -> bytes:
    """So many chat rows as JSON Lines."""
    lines = [
        {
            "messages": [
                {"role": "user", "content": f"Question {index}?"},
                {"role": "assistant", "content": f"Answer {index}."},
            ],
            "key": f"conversation {index}",
            **extra,
        }
        for index in range(number)
    ]
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


async def until(true: Callable[[], Any], seconds: float = 30) -> Any:
    """Wait for ``true`` (a function, or one that makes an awaitable) to be so; its value."""
    async with asyncio.timeout(seconds):
        while True:
            value = true()
            value = await value if asyncio.iscoroutine(value) else value
            if value:
                return value
            await asyncio.sleep(0.05)
