"""What callers see when the database goes away: nothing is begun, nothing is lost, no end is feigned."""

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import openai
import pytest
from sqlalchemy import make_url

from services.database.engine import Database
from services.gateway import ledger
from services.gateway.settings import GatewaySettings
from tests.cut_line import CutLine, line_to
from tests.postgres import fresh_database
from tests.services.gateway.conftest import SECRET, House, eventually, fill, listening
from tests.services.gateway.fake_upstream import BASE, DONE, FakeUpstream, chunk, usage

ASK = {"model": "support-bot", "messages": [{"role": "user", "content": "Hello"}]}
ID = "chatcmpl-0123456789abcdef0123"


@pytest.fixture
async def house_on_a_line(
    postgres_url: str, postgres_template: str, upstream: FakeUpstream
) -> AsyncIterator[tuple[House, CutLine]]:
    """A gateway whose PostgreSQL is reached over a line that can be cut."""
    template = make_url(postgres_template).database or ""
    direct = await asyncio.to_thread(fresh_database, postgres_url, template)
    database = Database(direct)
    key, member_key = await fill(database)
    async with line_to(make_url(direct).port or 0) as line:
        url = make_url(direct).set(port=line.port).render_as_string(hide_password=False)
        settings = GatewaySettings(
            vllm_base_url=upstream.url, database_url=url, jwt_secret_key=SECRET, default_model=BASE
        )
        async with listening(settings) as address:
            house = House(address, settings, database, upstream, key, member_key)
            yield house, line
            await house.close()
    await database.close()


async def test_without_the_database_nothing_is_begun_and_it_goes_on_when_it_is_back(
    house_on_a_line: tuple[House, CutLine],
) -> None:
    house, line = house_on_a_line
    await house.client().chat.completions.create(**ASK)
    line.cut()
    await eventually(lambda: _is_unready(house))
    begun = len(house.upstream.bodies)
    for _ in range(3):
        with pytest.raises(openai.InternalServerError) as refused:
            await house.client().chat.completions.create(**ASK)
        assert refused.value.status_code == 503
        assert "retry-after" in refused.value.response.headers
    assert len(house.upstream.bodies) == begun
    line.mend()
    await eventually(lambda: _is_ready(house))
    assert (await house.client().chat.completions.create(**ASK)).choices


async def test_a_database_lost_for_a_moment_in_mid_stream_is_not_noticed_by_the_caller(
    house_on_a_line: tuple[House, CutLine],
) -> None:
    house, line = house_on_a_line
    house.upstream.script = [chunk(ID, "a"), 0.5, chunk(ID, "b"), usage(ID), DONE]
    stream = await house.client().chat.completions.create(**ASK, stream=True)
    await anext(stream)
    await eventually(lambda: house.rows(status="open"))
    line.cut()
    asyncio.get_running_loop().call_later(1.0, line.mend)
    assert [event.choices[0].delta.content async for event in stream] == ["b"]
    row = await house.row()
    assert (row.status, row.completion_tokens, row.tokens_exact) == ("done", 3, True)


async def test_a_database_lost_for_good_in_mid_stream_lets_the_content_through_and_withholds_the_end(
    house_on_a_line: tuple[House, CutLine], monkeypatch: pytest.MonkeyPatch
) -> None:
    house, line = house_on_a_line
    monkeypatch.setattr(ledger, "FINISH_SECONDS", 0.7)
    house.upstream.script = [chunk(ID, "a"), 2.0, chunk(ID, "b"), usage(ID), DONE]
    headers = {"authorization": f"Bearer {house.key}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{house.url}/v1/chat/completions", json={**ASK, "stream": True}) as response,
    ):
        await response.content.readuntil(b"\n\n")
        await eventually(lambda: house.rows(status="open"))
        line.cut()
        rest = (await response.read()).split(b"\n\n")
    assert rest[0] + b"\n\n" == chunk(ID, "b")
    assert json.loads(rest[1].removeprefix(b"data: "))["error"]["type"] == "server_error"
    assert rest[2:] == [b""]
    line.mend()
    [row] = await eventually(lambda: house.rows(status="interrupted"))
    assert (row.completion_tokens, row.tokens_exact) == (3, True)


async def _is_ready(house: House) -> bool:
    async with aiohttp.ClientSession() as session, session.get(f"{house.url}/ready") as answer:
        return answer.status == 200


async def _is_unready(house: House) -> bool:
    return not await _is_ready(house)
