"""Two versions side by side in a real Chromium, before a model server that says who it is."""

import os
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from playwright.async_api import BrowserContext, Page, expect
from sqlalchemy import delete, select

from services.database.engine import Database
from services.database.tables import Bot, Comparison, Decision, Person, Version
from tests.services.gateway.fake_upstream import DONE, FakeUpstream, chunk, serving, usage
from tests.services.ui.conftest import Team, join

QUESTION = "#question textarea"
ANSWER = "#chat .bot.message"
SAYS = {"helper@1": "Our shop opens at nine.", "helper@2": "The shop opens at ten, on Sundays at noon."}


class Talkative(FakeUpstream):
    """Each version says its own sentence, word by word."""

    async def complete(self, request: web.Request) -> web.StreamResponse:
        model = (await request.json())["model"]
        name = f"chatcmpl-{secrets.token_hex(12)}"
        words = [chunk(name, f"{word} ") for word in SAYS.get(model, "I am the base.").split()]
        pauses: list[Any] = [step for word in words for step in (word, 0.05)]
        self.script = [chunk(name), *pauses, chunk(name, finish="stop"), usage(name), DONE]
        return await super().complete(request)


@dataclass
class Shop:
    """A team whose bot ``helper`` has a champion and a candidate."""

    team: Team
    database: Database

    async def comparisons(self) -> list[Comparison]:
        async with self.database.read() as session:
            return list(await session.scalars(select(Comparison)))


@pytest.fixture
async def shop(team_without_model: Team) -> AsyncIterator[Shop]:
    """A team whose model is there after all, with a bot."""
    database = Database(team_without_model.database_url)
    async with serving(Talkative(port=team_without_model.model_port)):
        await _serve_two(database)
        yield Shop(team_without_model, database)
        await _forget(database)
    await database.close()


async def _forget(database: Database) -> None:
    async with database.session() as session:
        await session.execute(delete(Version))
        await session.execute(delete(Decision))
        await session.execute(delete(Bot))


async def _serve_two(database: Database) -> None:
    """Versions 1 (champion) and 2 (candidate, without a share) of ``helper``."""
    async with database.session() as session:
        owner = (await session.scalars(select(Person.id).where(Person.role == "owner"))).one()
        session.add(
            Bot(name="helper", person_id=owner, base="support-model", champion=1, candidate=2, generation=1)
        )
        await session.flush()
        made = {
            "bot": "helper",
            "person_id": owner,
            "base": "support-model",
            "revision": "r",
            "rank": 8,
            "sha256": "s",
        }
        session.add_all(Version(number=number, state="passed", **made) for number in (1, 2))


async def compare(page: Page, question: str) -> tuple[str, str]:
    """Ask both and wait for both; what stands on the left and on the right."""
    await page.fill(QUESTION, question)
    await page.click("#both")
    await expect(page.locator("#notice")).to_contain_text("Which one is better?")
    return await page.locator("#left").inner_text(), await page.locator("#right").inner_text()


async def test_a_person_compares_two_answers_blind_and_goes_on_with_the_chosen(
    shop: Shop, context: BrowserContext
) -> None:
    page = await context.new_page()
    await join(page, await shop.team.invite(), "Sora")
    await expect(page.locator("#both")).to_be_visible()
    for part in ("#opinion", "#pair"):
        await expect(page.locator(part)).to_be_hidden()
    left, right = await compare(page, "When do you open?")
    assert {left.strip(), right.strip()} == set(SAYS.values())
    await expect(page.locator(QUESTION)).to_be_disabled()
    await expect(page.locator("#both")).to_be_hidden()
    assert "@" not in await page.locator("#room").inner_text()
    if folder := os.environ.get("ONGGI_SCREENSHOTS"):
        await page.screenshot(path=Path(folder) / "compare.png")

    await page.click("#take-right")
    await expect(page.locator("#pair")).to_be_hidden()
    await expect(page.locator(ANSWER)).to_have_text(right)
    [row] = await shop.comparisons()
    chosen = {text: int(name[-1]) for name, text in SAYS.items()}
    assert (row.choice, row.second_version) == ("second", chosen[right.strip()])
    assert row.first_version == 3 - chosen[right.strip()]

    await page.fill(QUESTION, "And on Sundays?")
    await page.press(QUESTION, "Enter")
    await expect(page.locator(ANSWER)).to_have_count(2)
    await expect(page.locator("#notice")).to_contain_text("answered in")
    await page.locator("#chat [aria-label='Like']").last.click()
    await page.fill("#opinion textarea, #opinion input", "It says when.")
    await page.click("#opinion button")
    await expect(page.locator("#notice")).to_contain_text("your comment is with the answer")
    await expect(page.locator("#opinion")).to_be_hidden()
    await page.locator("#chat [aria-label='Edit']").last.click()
    await page.locator("#chat textarea").fill("On Sundays at noon.")
    await page.click("#chat [aria-label='Submit']")
    await expect(page.locator("#notice")).to_contain_text("your correction")
    await page.reload()
    await expect(page.locator(ANSWER).first).to_have_text(right)
    await expect(page.locator(ANSWER).last).to_contain_text("On Sundays at noon.")

    await page.click("#new")
    await compare(page, "When do you close?")
    await page.click("#new")  # leaves it unchosen
    await expect(page.locator("#pair")).to_be_hidden()
    await expect(page.locator(QUESTION)).to_be_enabled()
    await compare(page, "Is there parking?")
    await page.click("#tie")
    await expect(page.locator(ANSWER)).to_have_count(1)
    assert sorted(str(row.choice) for row in await shop.comparisons()) == ["None", "second", "tie"]
