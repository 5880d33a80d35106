"""A real browser for tests and pictures."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, async_playwright

from common.errors import UserError


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """The system's Chromium, without a window.

    Raises:
        UserError: there is none.
    """
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not path:
        raise UserError("there is no chromium: install what apt.txt names")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        await browser.close()
