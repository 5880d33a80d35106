"""A candidate in shadow answers what was shown, unseen, and never in anybody's way."""

import asyncio
import time

import pytest
from openai import APIError, AsyncOpenAI, NotFoundError
from prometheus_client import REGISTRY
from sqlalchemy import update

from services.database.tables import Bot, Completion
from services.gateway import shadow
from tests.services.gateway.conftest import House, both_databases, eventually, listening
from tests.services.gateway.fake_upstream import FakeUpstream

HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture
async def in_shadow(house: House) -> House:
    """support-bot@1 is shown, and support-bot@2 answers unseen."""
    async with house.database.session() as session:
        row = update(Bot).where(Bot.name == "support-bot")
        await session.execute(row.values(candidate=2, share=0.0, shadow=True, generation=2))
    await eventually(lambda: _warmed(house.upstream))
    await asyncio.sleep(0.1)  # from loaded to open
    return house


async def _warmed(upstream: FakeUpstream) -> bool:
    return "support-bot@2" in upstream.warmed


def count(outcome: str) -> float:
    return REGISTRY.get_sample_value("onggi_gateway_shadows_total", {"outcome": outcome}) or 0.0


async def shadows(house: House) -> list[Completion]:
    return await house.rows(arm="shadow")


@both_databases
async def test_a_shadow_is_stored_beside_what_was_shown_and_in_no_list(in_shadow: House) -> None:
    house, client = in_shadow, in_shadow.client()
    stream = await client.chat.completions.create(
        model="support-bot", messages=HELLO, stream=True, store=True, metadata={"conversation_id": "c"}
    )
    events = [event async for event in stream]
    shown = events[0].id
    [row] = await eventually(lambda: shadows(house))
    assert (row.shadow_of, row.bot, row.version, row.status) == (shown, "support-bot", 2, "done")
    assert (row.conversation_key, row.messages, row.stored, row.key_id) == ("c", HELLO, True, None)
    assert row.answer["choices"][0]["message"]["content"] == "Hello."
    assert [body["model"] for body in house.upstream.bodies] == ["support-bot@1", "support-bot@2"]
    assert house.upstream.bodies[1]["stream"] is False
    listed = await client.chat.completions.list()
    assert [each.id for each in listed.data] == [shown]
    await client.chat.completions.delete(shown)
    assert [(row.stored, row.messages, row.answer) for row in await house.rows()] == [(False, None, None)] * 2


async def test_nothing_is_shadowed_but_what_a_bot_answered_and_may_be_stored(in_shadow: House) -> None:
    client = in_shadow.client()
    await client.chat.completions.create(model="support-bot", messages=HELLO, store=False)
    await client.chat.completions.create(model="support-bot@1", messages=HELLO, store=True)
    await client.chat.completions.create(model="new-bot", messages=HELLO, store=True)
    await asyncio.sleep(0.2)
    assert not await shadows(in_shadow)
    assert len(in_shadow.upstream.bodies) == 3


async def test_a_candidate_that_hangs_costs_callers_nothing_and_leaves_no_row(
    in_shadow: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow, "CALLERS", 3)
    busy, client = count("busy"), in_shadow.client()
    in_shadow.upstream.reply = 60.0  # what is asked for in one piece: the shadows
    began = time.perf_counter()
    for _ in range(6):
        async with await client.chat.completions.create(
            model="support-bot", messages=HELLO, stream=True, store=True
        ) as stream:
            assert [event async for event in stream]
    assert time.perf_counter() - began < 5
    await eventually(lambda: _is(count("busy") == busy + 6 - shadow.LIMIT))
    # The third caller at once makes the two that hang give way.
    in_shadow.upstream.script = [*in_shadow.upstream.events("chatcmpl-slow")[:2], 1.0]
    callers = [
        asyncio.create_task(client.chat.completions.create(model="support-bot", messages=HELLO, stream=True))
        for _ in range(3)
    ]
    await eventually(lambda: _is(count("busy") == busy + 6))
    await asyncio.gather(*callers, return_exceptions=True)
    assert not await shadows(in_shadow)


async def ask(house: House) -> None:
    """One streamed answer to its end, stored, in conversation c."""
    stream = await house.client().chat.completions.create(
        model="support-bot", messages=HELLO, stream=True, store=True, metadata={"conversation_id": "c"}
    )
    assert [event async for event in stream]


@both_databases
async def test_an_answer_that_the_candidate_fails_to_give_is_a_failed_row_in_no_list(
    in_shadow: House,
) -> None:
    house, failed = in_shadow, count("failed")
    house.upstream.reply = b"no JSON"
    await ask(house)
    [row] = await eventually(lambda: shadows(house))
    assert (row.status, row.status_code, row.version, row.answer, row.key_id) == (
        "failed",
        502,
        2,
        None,
        None,
    )
    assert row.error == "The model server's answer is not a JSON object."
    assert count("failed") == failed + 1
    [shown] = await house.rows(arm="champion")
    assert row.shadow_of == shown.id
    client = house.client()
    assert [each.id for each in (await client.chat.completions.list()).data] == [shown.id]
    with pytest.raises(NotFoundError):
        await client.chat.completions.retrieve(row.id)
    await client.chat.completions.delete(shown.id)
    [row] = await shadows(house)
    assert (row.stored, row.messages, row.request, row.error) == (False, None, None, None)


async def test_a_candidate_that_takes_too_long_has_failed(
    in_shadow: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow, "SECONDS", 0.2)
    in_shadow.upstream.reply = 60.0
    await ask(in_shadow)
    [row] = await eventually(lambda: shadows(in_shadow))
    assert (row.status, row.status_code) == ("failed", 504)


@pytest.mark.parametrize(("status", "kept"), [(400, 400), (500, 502)])
async def test_what_the_candidate_refuses_after_it_was_shown_is_its_failure(
    in_shadow: House, status: int, kept: int
) -> None:
    in_shadow.upstream.refused_model, in_shadow.upstream.refusal = "support-bot@2", (status, {}, {})
    await ask(in_shadow)
    [row] = await eventually(lambda: shadows(in_shadow))
    assert (row.status, row.status_code) == ("failed", kept)


@pytest.mark.parametrize("status", [404, 429, 502, 503, 504])
async def test_that_nobody_is_there_to_answer_is_not_the_candidates_failure(
    in_shadow: House, status: int
) -> None:
    away = count("away")
    in_shadow.upstream.refused_model, in_shadow.upstream.refusal = "support-bot@2", (status, {}, {})
    await ask(in_shadow)
    await eventually(lambda: _is(count("away") == away + 1))
    assert not await shadows(in_shadow)


async def test_what_the_model_server_failed_to_show_is_asked_of_the_candidate_too(in_shadow: House) -> None:
    in_shadow.upstream.refused_model, in_shadow.upstream.refusal = "support-bot@1", (500, {}, {})
    with pytest.raises(APIError):
        await ask(in_shadow)
    [row] = await eventually(lambda: shadows(in_shadow))
    [shown] = await in_shadow.rows(arm="champion")
    assert (shown.status, row.status, row.shadow_of) == ("failed", "done", shown.id)
    in_shadow.upstream.refusal = (400, {}, {})
    with pytest.raises(APIError):
        await ask(in_shadow)
    await asyncio.sleep(0.2)
    assert len(await shadows(in_shadow)) == 1  # a caller's mistake is one whoever answers


async def test_a_gateway_that_stops_leaves_no_row_of_a_shadow(in_shadow: House) -> None:
    in_shadow.upstream.reply = 60.0
    asked = len(in_shadow.upstream.bodies)
    async with (
        listening(in_shadow.settings) as url,
        AsyncOpenAI(base_url=f"{url}/v1", api_key=in_shadow.key) as client,
    ):
        await asyncio.sleep(0.5)  # from started to open
        stream = await client.chat.completions.create(
            model="support-bot", messages=HELLO, stream=True, store=True
        )
        assert [event async for event in stream]
        await eventually(lambda: _is(len(in_shadow.upstream.bodies) == asked + 2))
    assert not await shadows(in_shadow)


async def _is(true: bool) -> bool:
    return true
