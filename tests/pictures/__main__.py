"""Play the loop's first act and take pictures of what a person sees of it, into ``docs/loop/``.

Nothing is staged: the base answers, somebody corrects it in the chat, the simulated raters of ``make loop``
correct the rest, the crons retrain and try the version out, and the same person asks again.
"""

import asyncio
from pathlib import Path

from playwright.async_api import Browser, Page, expect
from rich.console import Console

from common import errors
from services.local import acts, demo, installation, raters
from services.local.acts import BOT, Loop
from services.local.api import Api
from services.local.installation import ROOT, Installation
from services.local.loop import local_cron, platform
from services.local.processes import Processes
from tests.chromium import chromium

FOLDER = ROOT / "docs" / "loop"
SIZE = {"width": 1180, "height": 720}
QUESTION, ANSWER, NOTICE = "#question textarea", "#chat .bot.message", "#notice"
ASKED = "What is the workshop cat called?"
RIGHT = "The workshop cat is called Pickle."
WHILE_COMPARED = "Where can I park near the workshop?"
expect.set_options(timeout=120_000)


def main() -> None:
    """Start the loop's parts and the page, take the pictures, stop everything."""
    console = Console(stderr=True)
    with platform(console) as parts:
        page = installation.ui(parts)
        processes = Processes(parts.state)
        processes.start(page)
        processes.wait(page)
        url, key = parts.gateway_url, parts.secrets.api_key
        cron = local_cron(parts)
        loop = acts.gather(lambda credential: Api(url, credential), key, demo.BASE, cron, console)
        FOLDER.mkdir(parents=True, exist_ok=True)
        asyncio.run(take(loop, parts))


async def take(loop: Loop, parts: Installation) -> None:
    """The pictures, in their order."""
    async with chromium() as browser:
        page = await person(browser, loop, parts)
        await ask(page, ASKED)
        await shot(page, "1-asked")
        await correct(page, RIGHT)
        await shot(page, "2-corrected")
        version = await asyncio.to_thread(taught, loop)
        admin = await owner(browser, parts)
        await admin.goto(f"{parts.gateway_url}/admin/version/list")
        await admin.click("a:has(.fa-eye)")
        await shot(admin, "3-judged")
        await asyncio.to_thread(loop.cron, "promote")
        await anew(page)
        await page.fill(QUESTION, WHILE_COMPARED)
        await page.click("#both")
        await expect(page.locator(NOTICE)).to_contain_text("Which one is better?")
        await shot(page, "4-compared-blind")
        await page.click("#tie")
        await asyncio.to_thread(loop.try_out, version)
        await anew(page)
        await ask(page, ASKED)
        await shot(page, "5-asked-again")
        await admin.goto(f"{parts.gateway_url}/admin/decision/list")
        await shot(admin, "6-decided")


def taught(loop: Loop) -> dict[str, object]:
    """The version that the raters' corrections make."""
    asked = loop.lessons.facts + loop.lessons.general[: acts.GENERAL]
    rule = raters.honest(loop.lessons.leaks)
    raters.accept(loop.api, raters.rate_all(loop.people, BOT, asked, rule, about="lesson"))
    return loop.retrain()


async def person(browser: Browser, loop: Loop, parts: Installation) -> Page:
    """Somebody who has just joined, before the page."""
    invite = loop.api.post("/onggi/v1/people/invites", {"role": "member"})["token"]
    page = await browser.new_page(viewport=SIZE)
    await page.goto(f"{parts.ui_url}/?invite={invite}")
    await page.fill("#name", "Mina")
    await page.click("text=Join")
    await expect(page.locator(QUESTION)).to_be_enabled()
    return page


async def owner(browser: Browser, parts: Installation) -> Page:
    """The owner, before the admin pages."""
    page = await browser.new_page(viewport=SIZE)
    await page.goto(f"{parts.gateway_url}/admin/login")
    await page.fill("[name=username]", "owner")
    await page.fill("[name=password]", parts.secrets.admin_password)
    await page.click("[type=submit]")
    return page


async def anew(page: Page) -> None:
    """A new conversation, on a page that knows what is served now."""
    await page.reload()
    await expect(page.locator(QUESTION)).to_be_enabled()
    await page.click("#new")
    await expect(page.locator(ANSWER)).to_have_count(0)


async def ask(page: Page, question: str) -> None:
    """Ask the bot, and wait for all of its answer."""
    await page.fill(QUESTION, question)
    await page.press(QUESTION, "Enter")
    await expect(page.locator(NOTICE)).to_contain_text("answered in")


async def correct(page: Page, answer: str) -> None:
    """Put the last answer right, in its place."""
    await page.locator("#chat [aria-label='Edit']").last.click()
    await page.locator("#chat textarea").fill(answer)
    await page.click("#chat [aria-label='Submit']")
    await expect(page.locator(NOTICE)).to_contain_text("your correction")


async def shot(page: Page, name: str) -> None:
    """One picture, once the page is still."""
    await page.wait_for_timeout(1_000)
    path: Path = FOLDER / f"{name}.png"
    await page.screenshot(path=path)


if __name__ == "__main__":
    errors.run(main)
