"""The page in a real Chromium: before the demo, and before a team whose model is away."""

import asyncio
import os
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from playwright.async_api import Browser, BrowserContext, Page, expect

from tests.chromium import chromium
from tests.demo import Demo
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[3]
# On two busy cores; what goes well takes a second.
PATIENCE_MS = 60_000
expect.set_options(timeout=PATIENCE_MS)


@dataclass(frozen=True)
class Team:
    """An installation: where its page and its API are, and an owner's key.

    ``model_port`` is where its model server would be, and ``database_url`` its database, of a team whose
    model is away.
    """

    ui_url: str
    api_url: str
    key: str
    base: str = "support-model"
    model_port: int = 0
    database_url: str = ""

    async def ask(self, method: str, path: str, body: object = None) -> dict:  # type: ignore[type-arg]
        """The API's answer to its owner."""
        headers = {"Authorization": f"Bearer {self.key}"}
        async with (
            aiohttp.ClientSession(self.api_url, headers=headers) as session,
            session.request(method, path, json=body) as response,
        ):
            assert response.status == 200, await response.text()
            return dict(await response.json())

    async def invite(self) -> str:
        """A fresh invite link."""
        token = (await self.ask("POST", "/onggi/v1/people/invites", {}))["token"]
        return f"{self.ui_url}/?invite={token}"


@pytest.fixture(scope="session")
def team(demo: Demo) -> Team:
    """The demo."""
    return Team(demo.ui_url, demo.gateway_url, demo.owner_key, demo.base_name)


@pytest.fixture(scope="session")
def team_without_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """Gateway, control and UI before a port where no model answers."""
    folder, ports = tmp_path_factory.mktemp("team"), (free_port(), free_port(), free_port())
    team = Team(
        f"http://127.0.0.1:{ports[1]}",
        f"http://127.0.0.1:{ports[0]}",
        f"sk-onggi-{secrets.token_hex(22)}",
        model_port=ports[2],
        database_url=f"sqlite+aiosqlite:///{folder}/onggi.db",
    )
    environ = {
        "FASTAPI_PORT": str(ports[0]),
        "UI_PORT": str(ports[1]),
        "VLLM_BASE_URL": f"http://127.0.0.1:{ports[2]}/v1",
        "GATEWAY_URL": team.api_url,
        "CONTROL_URL": team.api_url,
        "DATABASE_URL": team.database_url,
        "STORE_URL": str(folder / "store"),
        "JOBS_DIR": str(folder / "jobs"),
        "API_KEY": team.key,
        "ADMIN_USERNAME": "Mina",
        "ADMIN_PASSWORD": secrets.token_hex(8),
        "JWT_SECRET_KEY": secrets.token_hex(16),
        "CONTROL_TOKEN": secrets.token_hex(16),
        "DEFAULT_MODEL": team.base,
        "RUNNER": "none",
    }
    with started("services", environ), started("services.ui", environ):
        for url in (team.api_url, team.ui_url):
            wait(f"{url}/health")
        yield team


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """A Chromium."""
    async with chromium() as browser:
        yield browser


@pytest.fixture
async def context(browser: Browser) -> BrowserContext:
    """One person's browser."""
    return await new_person(browser)


async def new_person(browser: Browser, **options: Any) -> BrowserContext:
    """One more person's browser."""
    context = await browser.new_context(**options)
    context.set_default_timeout(PATIENCE_MS)
    return context


async def join(page: Page, link: str, name: str) -> None:
    """Come in by an invite link and wait until the page is ready."""
    await page.goto(link)
    await page.fill("#name", name)
    await page.click("text=Join")
    await ready(page)


async def ready(page: Page) -> None:
    """Wait for the page as a person does, who is offered to load it again after 20 s and does so."""
    await expect(page.locator("#question textarea:enabled, #late a").first).to_be_visible()
    if await page.locator("#late a").is_visible():
        await page.click("#late a")
    await expect(page.locator("#question textarea")).to_be_enabled()


@contextmanager
def started(module: str, environ: dict[str, str]) -> Iterator[None]:
    """A service as a process of its own."""
    command = [sys.executable, "-m", module]
    with subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **environ}, stdout=subprocess.DEVNULL
    ) as process:
        try:
            yield
        finally:
            process.terminate()


def wait(url: str) -> None:
    """Wait until ``url`` answers."""
    deadline = time.monotonic() + 120
    while not _answers(url):
        assert time.monotonic() < deadline, f"{url} does not answer"
        time.sleep(0.2)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float = 60) -> None:
    """Wait until ``condition`` holds."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.2)
