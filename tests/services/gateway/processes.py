"""Gateways that are processes of their own, for what a test cannot do to one in its own process."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from tests.ports import free_port
from tests.services.gateway.conftest import SECRET, House, eventually


@asynccontextmanager
async def gateway_process(
    house: House, **environ: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """``python -m services.gateway`` in front of the house's upstream, and its URL."""
    port = free_port()
    environ = {
        **os.environ,
        "DATABASE_URL": house.settings.database_url,
        "VLLM_BASE_URL": house.upstream.url,
        "JWT_SECRET_KEY": SECRET,
        "FASTAPI_PORT": str(port),
        **environ,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.gateway", env=environ, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        await eventually(lambda: _ready(port), 30)
        yield process, f"http://127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _ready(port: int) -> bool:
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port}/ready") as answer,
        ):
            return answer.status == 200
    except aiohttp.ClientError:
        return False
