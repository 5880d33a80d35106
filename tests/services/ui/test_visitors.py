"""Who may come in, and what they are told when something is wrong."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, BrowserContext, Route, expect

from tests.ports import free_port
from tests.services.ui.conftest import Team, join, new_person, ready, started, wait

QUESTION = "#question textarea"


@asynccontextmanager
async def forwarder(port: int, url: str) -> AsyncIterator[None]:
    """The server at ``url`` on another port as well."""
    there = urlsplit(url)

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, out = await asyncio.open_connection(there.hostname, there.port)
        await asyncio.gather(copy(reader, out), copy(back, writer))

    async with await asyncio.start_server(forward, "127.0.0.1", port):
        yield


async def test_without_a_credential_there_is_only_the_door(
    team_without_model: Team, context: BrowserContext
) -> None:
    page = await context.new_page()
    await page.goto(team_without_model.ui_url)
    await expect(page.locator("#key")).to_be_visible()
    await expect(page.locator("#chat")).to_have_count(0)
    await page.fill("#key", "sk-onggi-wrong")
    await page.click("text=Come in")
    await expect(page.get_by_role("alert")).to_contain_text("This key opens nothing here")


async def test_an_invite_works_once_and_its_credential_is_hidden_from_scripts(
    team_without_model: Team, context: BrowserContext
) -> None:
    link = await team_without_model.invite()
    page = await context.new_page()
    await page.goto(link)  # a look at it, such as a mail program's, does not use it up
    await join(page, link, "Jun <b>")
    await expect(page.locator(".who")).to_have_text("Jun <b>")
    (cookie,) = [cookie for cookie in await context.cookies() if cookie["name"] == "onggi_session"]
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Lax"
    assert await page.evaluate("document.cookie") == ""
    await page.goto(link)
    await page.fill("#name", "Somebody else")
    await page.click("text=Join")
    await expect(page.get_by_role("alert")).to_contain_text("used or expired")


async def test_an_owner_comes_in_with_a_key_invites_and_signs_out(
    team_without_model: Team, context: BrowserContext
) -> None:
    page = await context.new_page()
    await page.goto(team_without_model.ui_url)
    await page.fill("#key", team_without_model.key)
    await page.click("text=Come in")
    await ready(page)
    await page.click("#invite")
    link = page.locator("#link textarea, #link input")
    await page.wait_for_function(
        "document.querySelector('#link textarea, #link input')?.value.includes('/?invite=')"
    )
    made = await link.input_value()
    await page.click("#leave")
    await expect(page.locator("#key")).to_be_visible()
    await join(page, made, "Dal")
    await expect(page.locator("#invite")).to_be_hidden()


async def test_a_model_that_is_away_is_a_sentence_and_the_question_is_kept(
    team_without_model: Team, context: BrowserContext
) -> None:
    page = await context.new_page()
    await join(page, await team_without_model.invite(), "Byeol")
    await page.fill(QUESTION, "Are you there?")
    await page.press(QUESTION, "Enter")
    await expect(page.locator("#notice .trouble")).to_contain_text("Try again in")
    await expect(page.locator(QUESTION)).to_have_value("Are you there?")
    await expect(page.locator("#chat .message")).to_have_count(0)
    await expect(page.locator("#ask")).to_be_visible()


async def test_a_page_that_cannot_be_filled_says_so_and_fills_itself_later(
    team_without_model: Team, context: BrowserContext
) -> None:
    gateway, ui = free_port(), free_port()
    environ = {
        "UI_PORT": str(ui),
        "GATEWAY_URL": f"http://127.0.0.1:{gateway}",
        "CONTROL_URL": team_without_model.api_url,
    }
    page = await context.new_page()
    with started("services.ui", environ):
        await asyncio.to_thread(wait, f"http://127.0.0.1:{ui}/health")
        await page.goto(f"http://127.0.0.1:{ui}")
        await page.fill("#key", team_without_model.key)
        await page.click("text=Come in")
        await expect(page.locator("#notice .trouble")).to_contain_text("tries again by itself")
        await expect(page.locator(QUESTION)).to_be_disabled()
        async with forwarder(gateway, team_without_model.api_url):
            await expect(page.locator(QUESTION)).to_be_enabled()
            await expect(page.locator("#notice")).to_be_hidden()
            await expect(page.locator("#invite")).to_be_visible()


async def test_a_page_whose_first_event_is_lost_can_be_loaded_again(
    team_without_model: Team, context: BrowserContext
) -> None:
    page = await context.new_page()
    await page.clock.install()
    lost = True

    async def answer(route: Route) -> None:
        if not lost:
            await route.continue_()

    await page.route("**/queue/join*", answer)
    await page.goto(await team_without_model.invite())
    await page.fill("#name", "Gaeul")
    await page.click("text=Join")
    await expect(page.locator(QUESTION)).to_be_visible()
    await page.clock.fast_forward("00:20")
    async with page.expect_navigation(wait_until="commit"):
        await page.click("text=Load it again")
    lost = False
    await ready(page)
    await expect(page.locator("#late")).to_be_hidden()


async def test_on_a_phone_the_conversation_is_in_front(team_without_model: Team, browser: Browser) -> None:
    context = await new_person(
        browser, viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True
    )
    page = await context.new_page()
    await join(page, await team_without_model.invite(), "Haru")
    await expect(page.locator(".sidebar.open")).to_have_count(0)
    await page.tap(QUESTION)
    await expect(page.locator("#ask")).to_be_in_viewport(ratio=1)
    assert await page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("path", ["gradio_api/upload", "upload"])
async def test_nobody_can_put_files_on_the_server(
    team_without_model: Team, context: BrowserContext, path: str
) -> None:
    answer = await context.request.post(
        f"{team_without_model.ui_url}/{path}",
        multipart={"files": {"name": "x", "mimeType": "text/plain", "buffer": b"x"}},
    )
    assert answer.status == 404
