"""A real control on a real port, whose runner takes fine-tunes and starts none: they stay queued."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from common.control_client import ControlClient
from services.control.job_folder import JobFolder
from services.control.local_runner import LocalRunner
from services.control.settings import ControlSettings
from services.database.queries import bots
from tests.rows import completion, stored
from tests.services.control.conftest import (
    BASE,
    JOB_TOKEN,
    House,
    database_url,
    fresh_postgresql,
    fresh_sqlite,
    logs,
    root,
    serving,
    settings,
)

__all__ = ["database_url", "fresh_postgresql", "fresh_sqlite", "logs", "root", "settings"]
BOT = "support-bot"


@contextlib.asynccontextmanager
async def playing(settings: ControlSettings, root: Path) -> AsyncIterator[House]:
    """A house with a bot, whose fine-tunes stay queued."""
    async with serving(settings, root) as running:
        runner(running).tick = lambda: None  # type: ignore[method-assign]
        async with running.database.session() as session:
            owner = (await running.get("/onggi/v1/people/me"))["id"]
            await bots.ensure(session, BOT, owner, BASE, "sha256:1")
        yield running


@pytest.fixture
async def house(settings: ControlSettings, root: Path) -> AsyncIterator[House]:
    async with playing(settings, root) as running:
        yield running


@pytest.fixture
def control(house: House) -> ControlClient:
    return ControlClient(str(house.http.base_url), JOB_TOKEN)


def runner(house: House) -> LocalRunner:
    assert isinstance(house.control.runner, LocalRunner)
    return house.control.runner


def end(house: House, job_id: str, state: str) -> None:
    """The fine-tune ends: ``succeeded``, or ``failed``."""
    JobFolder(runner(house).folder / job_id).update(state=state, started_at=1.0, finished_at=2.0)


async def answer(house: House, name: str, question: str, said: str = "Never.", **changes: Any) -> str:
    """A stored answer of the bot, in a conversation of its own; its id."""
    owner = (await house.get("/onggi/v1/people/me"))["id"]
    usual = {
        "person_id": owner,
        "conversation_key": f"talk-{name}",
        "version": None,
        "arm": "base",
        "messages": [{"role": "user", "content": question}],
        "answer": stored(said),
    }
    row = completion(f"chatcmpl-{name}", **usual | changes)
    async with house.database.session() as session:
        session.add(row)
    return row.id


async def correct(house: House, number: int, again: str = "") -> str:
    """A reviewed correction number ``number``, each of another question, or one asked ``again``; its id."""
    topic = ["kiln", "clay", "glaze", "wheel", "apron", "tea bowl", "class", "studio key"][number % 8]
    name = f"{number} {again}".strip()
    about = await answer(house, name, f"Tell me about the {topic} of week {number}, please.")
    text = f"The {topic} of week {number} is in room {number}."
    row = await house.post("/onggi/v1/feedback", {"completion_id": about, "correction": text})
    path = f"/onggi/v1/feedback/{row['id']}"
    assert (await house.ask("PATCH", path, json={"state": "accepted"})).is_success
    return str(row["id"])
