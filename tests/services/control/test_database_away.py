"""What control answers while the database is away: come again, and nothing half-done."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from services.control.settings import ControlSettings
from tests.cut_line import CutLine, line_to
from tests.services.control.conftest import BASE, House, serving

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
BOT = {"name": "support-bot", "base": BASE}


@pytest.fixture
async def on_a_line(settings: ControlSettings, root: Path) -> AsyncIterator[tuple[House, CutLine]]:
    """A control whose PostgreSQL is reached over a line that can be cut."""
    direct = make_url(settings.database_url)
    async with line_to(direct.port or 0) as line:
        url = direct.set(port=line.port).render_as_string(hide_password=False)
        async with serving(settings.model_copy(update={"database_url": url}), root) as house:
            yield house, line


async def test_who_asks_meanwhile_is_told_to_come_again_and_finds_everything_when_it_is_back(
    on_a_line: tuple[House, CutLine],
) -> None:
    house, line = on_a_line
    await house.post("/onggi/v1/bots", BOT)
    line.cut()
    for method, path, body in (
        ("GET", "/onggi/v1/bots", None),
        ("POST", "/onggi/v1/bots", {**BOT, "name": "another-bot"}),
    ):
        answer = await house.ask(method, path, json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
        assert "retry-after" in answer.headers
    line.mend()
    assert [bot["name"] for bot in (await house.get("/onggi/v1/bots"))["data"]] == ["support-bot"]


async def test_a_request_that_is_under_way_when_it_goes_is_no_500_either(
    on_a_line: tuple[House, CutLine],
) -> None:
    house, line = on_a_line
    statuses = set()
    for moment in range(12):
        asked = asyncio.create_task(
            house.ask("POST", "/onggi/v1/bots", json={**BOT, "name": f"bot-{moment}"})
        )
        await asyncio.sleep(moment * 0.004)
        line.cut()
        statuses.add((await asked).status_code)
        line.mend()
        with contextlib.suppress(AssertionError):  # a connection that was cut is found out about first
            await house.get("/onggi/v1/bots")
    assert statuses <= {200, 201, 503}
    assert 503 in statuses
