"""People in front of the page, in a real Chromium, with a real model behind it."""

import asyncio
import re
import secrets
from typing import Any

from playwright.async_api import Browser, BrowserContext, Page, expect

from tests.services.ui.conftest import Team, eventually, join, new_person

ANSWER = "#chat .bot.message"
QUESTION = "#question textarea"


async def ask(page: Page, question: str) -> None:
    await page.fill(QUESTION, question)
    await page.press(QUESTION, "Enter")


async def choose(page: Page, model: str) -> None:
    await page.click("#models input")
    await page.get_by_role("option", name=model, exact=True).click()
    await expect(page.locator("#models input")).to_have_value(model)


async def finished(page: Page) -> None:
    await expect(page.locator("#notice")).to_contain_text("answered in", timeout=120_000)
    await expect(page.locator("#ask")).to_be_visible()


async def watch(page: Page) -> None:
    """Remember every state of the last answer on the page."""
    await page.evaluate(
        f"""() => {{
            window.seen = [];
            new MutationObserver(() => {{
                const all = document.querySelectorAll('{ANSWER}');
                const text = all.length ? all[all.length - 1].innerText : '';
                if (text && text !== window.seen.at(-1)) window.seen.push(text);
            }}).observe(document.body, {{subtree: true, childList: true, characterData: true}});
        }}"""
    )


async def feedback_of(team: Team, name: str) -> list[dict[str, Any]]:
    people = (await team.ask("GET", "/onggi/v1/people"))["data"]
    person = next(person["id"] for person in people if person["name"] == name)
    said = (await team.ask("GET", "/onggi/v1/feedback?limit=1000"))["data"]
    return [row for row in said if row["person_id"] == person]


async def test_a_person_joins_chats_rates_comments_and_corrects(team: Team, context: BrowserContext) -> None:
    page = await context.new_page()
    outside: list[str] = []
    page.on("request", lambda request: outside.append(request.url) if is_outside(request.url, team) else None)
    name = f"Jun {secrets.token_hex(4)}"
    await join(page, await team.invite(), name)
    await choose(page, team.base)  # the demo's bot has learned to be brief
    await watch(page)
    await ask(page, "Tell me about the sea, in five sentences.")
    await finished(page)
    seen = await page.evaluate("window.seen")
    assert len(seen) > 5, "it was not streamed"
    assert seen[-1].startswith(seen[3])

    await page.click("#chat [aria-label='Like']")
    await page.fill("#opinion textarea, #opinion input", "It names the sea.")
    await page.click("#opinion button")
    await expect(page.locator("#notice")).to_contain_text("your comment is with the answer")
    await page.locator("#chat [aria-label='Edit']").last.click()
    await page.locator("#chat textarea").fill("The sea is deep.")
    await page.click("#chat [aria-label='Submit']")
    await expect(page.locator("#notice")).to_contain_text("your correction")
    await expect(page.locator(ANSWER)).to_contain_text("The sea is deep.")
    (said,) = await feedback_of(team, name)
    assert (said["rating"], said["comment"], said["correction"]) == (
        1,
        "It names the sea.",
        "The sea is deep.",
    )

    await page.reload()
    await expect(page.locator(ANSWER)).to_contain_text("The sea is deep.")
    await expect(page.locator("#past")).to_contain_text("Tell me about the sea")
    stored = await team.ask("GET", f"/onggi/v1/conversations/{said['conversation_key']}")
    assert [turn["status"] for turn in stored["turns"]] == ["done"]
    await expect(page.locator("footer")).to_be_hidden()
    assert not outside


async def test_two_people_at_once_stay_apart_and_do_not_wait_for_each_other(
    team: Team, browser: Browser
) -> None:
    pages = [await (await new_person(browser)).new_page() for _ in range(2)]
    names, topics = ("Ara", "Bom"), ("mountains", "rivers")
    for page, name in zip(pages, names, strict=True):
        await join(page, await team.invite(), name)
        await choose(page, team.base)
        await watch(page)
    await asyncio.gather(
        *(ask(page, f"Write a long story about {topic}.") for page, topic in zip(pages, topics, strict=True))
    )

    async def both_are_being_answered() -> bool:
        going = [await page.evaluate("window.seen.length") > 2 for page in pages]
        stoppable = [await page.locator("#stop").is_visible() for page in pages]
        return all(going + stoppable)

    await eventually(both_are_being_answered)
    for page in pages:
        await page.click("#stop")
        await expect(page.locator("#ask")).to_be_visible()
    for page, mine, other in zip(pages, topics, reversed(topics), strict=True):
        await expect(page.locator("#chat .user.message")).to_have_count(1)
        await expect(page.locator("#chat .user.message")).to_contain_text(mine)
        await expect(page.locator("#past")).not_to_contain_text(other)


async def test_a_stopped_answer_stays_as_far_as_it_came_and_can_be_asked_again(
    team: Team, context: BrowserContext
) -> None:
    page = await context.new_page()
    await join(page, await team.invite(), "Sol")
    await choose(page, team.base)
    await ask(page, "Write a long story about the sea.")  # a shorter answer could end by itself
    await expect(page.locator(ANSWER)).to_contain_text(re.compile(r"\w+\W+\w+"))
    await page.click("#stop")
    await expect(page.locator("#ask")).to_be_visible()
    came = await page.locator(ANSWER).inner_text()
    assert came.strip()

    conversation = await page.locator("#past input:checked").get_attribute("value")

    async def the_generation_has_ended() -> bool:
        stored = await team.ask("GET", f"/onggi/v1/conversations/{conversation}")
        return [turn["status"] for turn in stored["turns"]] == ["interrupted"]

    await eventually(the_generation_has_ended)
    await page.click("#new")
    await expect(page.locator(ANSWER)).to_have_count(0)
    await ask(page, "Say yes.")
    await finished(page)


def is_outside(url: str, team: Team) -> bool:
    """Whether a request leaves the page's own server."""
    return not url.startswith((team.ui_url, "data:", "blob:"))
