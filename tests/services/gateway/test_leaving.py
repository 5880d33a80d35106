"""A gateway that is told to stop, as a process of its own: nothing that it took is lost."""

import asyncio
import json
import signal

import aiohttp

from tests.services.gateway.conftest import House, eventually
from tests.services.gateway.fake_upstream import DONE, chunk, usage
from tests.services.gateway.processes import gateway_process

ASK = {"model": "support-bot", "messages": [{"role": "user", "content": "Hello"}]}
ID = "chatcmpl-0123456789abcdef0123"


async def test_on_sigterm_it_is_unready_at_once_takes_what_comes_and_tells_what_outlasts_the_grace(
    house: House,
) -> None:
    begun = chunk(ID, "a")
    async with (
        gateway_process(house, LEAVE_SECONDS="1", DRAIN_SECONDS="3") as (process, url),
        aiohttp.ClientSession(headers={"authorization": f"Bearer {house.key}"}) as session,
    ):
        house.upstream.script = [begun, 1.5, chunk(ID, "b"), usage(ID), DONE]
        ends = await session.post(f"{url}/v1/chat/completions", json={**ASK, "stream": True})
        house.upstream.script = [begun, 60.0]
        outlasts = await session.post(f"{url}/v1/chat/completions", json={**ASK, "stream": True})
        assert await ends.content.readuntil(b"\n\n") == await outlasts.content.readuntil(b"\n\n") == begun
        async with session.get(f"{url}/health") as answer:
            assert "connection" not in answer.headers
        process.send_signal(signal.SIGTERM)
        await eventually(lambda: _is_unready(session, url))
        async with session.post(f"{url}/v1/chat/completions", json=ASK) as answer:
            assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await ends.content.read() == chunk(ID, "b") + DONE
        last, nothing = (await outlasts.content.read()).split(b"\n\n")
        assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "unavailable"
        assert nothing == b""
        assert await asyncio.wait_for(process.wait(), 10) in (0, -signal.SIGTERM)
    assert not await house.rows(status="open")
    assert sorted(row.status for row in await house.rows()) == ["done", "done", "failed"]


async def test_who_was_in_the_middle_of_an_answer_is_told_before_the_connection_closes(house: House) -> None:
    begun = chunk(ID, "a")
    async with (
        gateway_process(house, LEAVE_SECONDS="0.5", DRAIN_SECONDS="20") as (process, url),
        aiohttp.ClientSession(
            headers={"authorization": f"Bearer {house.key}"}, connector=aiohttp.TCPConnector(limit=1)
        ) as session,
    ):
        house.upstream.script = [begun, 3.0, chunk(ID, "b"), usage(ID), DONE]
        lasts = await session.post(f"{url}/v1/chat/completions", json={**ASK, "stream": True})
        assert await lasts.content.readuntil(b"\n\n") == begun
        assert "connection" not in lasts.headers
        process.send_signal(signal.SIGTERM)
        assert await lasts.content.read() == chunk(ID, "b") + DONE
        house.upstream.script = None
        async with session.post(f"{url}/v1/chat/completions", json=ASK) as answer:
            assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await asyncio.wait_for(process.wait(), 10) in (0, -signal.SIGTERM)


async def _is_unready(session: aiohttp.ClientSession, url: str) -> bool:
    async with session.get(f"{url}/ready") as answer:
        return answer.status == 503
