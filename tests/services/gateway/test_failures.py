"""What callers see, and what is on record, when upstream, caller or gateway fail."""

import asyncio
import signal
from datetime import timedelta
from random import Random

import aiohttp
import openai
import pytest
from sqlalchemy import update

from services.database.tables import Completion, now
from services.gateway import ledger
from tests.ports import free_port
from tests.services.gateway.conftest import House, both_databases, eventually, listening
from tests.services.gateway.fake_upstream import BROKEN, DONE, chunk, usage
from tests.services.gateway.processes import gateway_process

ASK = {"model": "support-bot", "messages": [{"role": "user", "content": "Hello"}]}
ID = "chatcmpl-0123456789abcdef0123"


async def read_stream(house: House) -> tuple[str, openai.APIError | None]:
    """The text that came, and the error that ended it."""
    text = ""
    stream = await house.client().chat.completions.create(**ASK, stream=True)
    try:
        async for event in stream:
            text += event.choices[0].delta.content or ""
    except openai.APIError as error:
        return text, error
    return text, None


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "body", "answered", "words"),
    [
        (
            400,
            {"error": {"message": "too long", "type": "BadRequestError", "param": None, "code": 400}},
            400,
            "too long",
        ),
        (404, {"error": {"message": "no adapter", "type": "NotFoundError", "code": 404}}, 404, "no adapter"),
        (422, {"detail": "odd"}, 422, "odd"),
        (429, {"error": {"message": "slow down"}}, 429, "slow down"),
        (401, {"error": {"message": "bad key"}}, 502, "UPSTREAM_API_KEY"),
        (500, "Internal Server Error", 502, "failed (500)"),
        (503, "", 503, "again"),
    ],
)
async def test_the_upstreams_refusals_come_in_openais_shape(
    house: House, stream: bool, status: int, body: object, answered: int, words: str
) -> None:
    house.upstream.refusal = (status, body, {})
    with pytest.raises(openai.APIStatusError) as refused:
        await house.client().chat.completions.create(**ASK, stream=stream)
    assert refused.value.status_code == answered
    assert words in refused.value.message
    assert set(refused.value.response.json()["error"]) == {"message", "type", "param", "code"}
    assert ("retry-after" in refused.value.response.headers) == (
        answered in (429, 502, 503) and status != 401
    )
    row = await eventually(lambda: house.rows(status="failed"))
    assert row[0].status_code == answered


async def test_an_upstream_that_is_away_is_a_503_with_retry_after(house: House) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}/v1"
    async with listening(house.settings.model_copy(update={"vllm_base_url": nowhere})) as url:
        client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=house.key, max_retries=0)
        with pytest.raises(openai.InternalServerError) as refused:
            await client.chat.completions.create(**ASK)
        await client.close()
    assert refused.value.status_code == 503
    assert refused.value.response.headers["retry-after"] == "5"


async def test_a_stream_that_breaks_ends_with_an_error_event_and_never_with_done(house: House) -> None:
    house.upstream.script = [chunk(ID), chunk(ID, "Hel"), 0.05, BROKEN]
    text, error = await read_stream(house)
    assert text == "Hel"
    assert error is not None
    assert "broke" in error.message
    row = await eventually(lambda: house.rows(status="failed"))
    assert (row[0].id, row[0].completion_tokens, row[0].tokens_exact) == (ID, 1, False)


async def test_a_stream_that_ends_without_done_is_not_taken_for_a_whole_one(house: House) -> None:
    house.upstream.script = [chunk(ID, "Hel"), chunk(ID, finish="stop")]
    text, error = await read_stream(house)
    assert text == "Hel"
    assert error is not None


async def test_an_error_that_the_upstream_puts_into_its_stream_reaches_the_caller(house: House) -> None:
    failure = b'data: {"error": {"message": "out of memory", "type": "InternalServerError", "code": 500}}\n\n'
    house.upstream.script = [chunk(ID, "Hel"), failure, DONE]
    text, error = await read_stream(house)
    assert text == "Hel"
    assert error is not None
    assert error.message == "out of memory"
    # The upstream's words may quote the request, so they are kept only where text is.
    assert (await eventually(lambda: house.rows(status="failed")))[0].error == "server_error"


@pytest.mark.parametrize("reply", [b"<html>", b"[1]", b""])
async def test_an_upstream_that_answers_no_json_object_is_a_502(house: House, reply: bytes) -> None:
    house.upstream.reply = reply
    with pytest.raises(openai.InternalServerError) as refused:
        await house.client().chat.completions.create(**ASK)
    assert refused.value.status_code == 502


@pytest.mark.parametrize(
    "reply", [b'{"choices": "odd"}', b'{"usage": {"prompt_tokens": 1e30}, "choices": [7]}']
)
async def test_an_upstream_that_answers_nonsense_is_an_error_in_openais_shape(
    house: House, reply: bytes
) -> None:
    house.upstream.reply = reply
    with pytest.raises(openai.InternalServerError) as refused:
        await house.client().chat.completions.create(**ASK)
    assert refused.value.response.json()["error"]["type"] == "server_error"
    assert (await eventually(lambda: house.rows(status="failed")))[0].status_code >= 500


async def test_nonsense_in_mid_stream_is_an_error_event(house: House) -> None:
    house.upstream.script = [chunk(ID, "Hel"), 0.05, b'data: {"usage": {"x": 1}, "choices": [7]}\n\n', DONE]
    stream = await house.client().chat.completions.create(**ASK, stream=True, store=True)
    with pytest.raises(openai.APIError):
        _ = [event async for event in stream]
    assert (await eventually(lambda: house.rows(status="failed")))[0].status_code == 500


@both_databases
async def test_a_caller_that_leaves_stops_the_upstream_and_the_row_is_interrupted_once(house: House) -> None:
    house.upstream.script = [chunk(ID), chunk(ID, "Hel"), chunk(ID, "lo"), 30.0, DONE]
    stream = await house.client().chat.completions.create(**ASK, stream=True)
    async for event in stream:
        if event.choices[0].delta.content == "lo":
            break
    await stream.close()
    await asyncio.wait_for(house.upstream.left.wait(), 5)
    [row] = await eventually(lambda: house.rows(status="interrupted"))
    assert (row.id, row.completion_tokens, row.lease_until) == (ID, 2, None)
    assert row.finished_at is not None


async def test_a_caller_that_leaves_before_the_answer_stops_the_upstream_too(house: House) -> None:
    house.upstream.reply = 30.0
    with pytest.raises(openai.APITimeoutError):
        await house.client(timeout=0.3).chat.completions.create(**ASK)
    await asyncio.wait_for(house.upstream.left.wait(), 5)
    [row] = await eventually(lambda: house.rows(status="interrupted"))
    assert (row.ttft_ms, row.tokens_exact) == (None, False)


async def test_the_count_so_far_is_flushed_and_the_lease_renewed_while_a_stream_runs(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "FLUSH_SECONDS", 0.1)
    house.upstream.script = [chunk(ID, "a"), 0.5, chunk(ID, "b"), 2.5, usage(ID), DONE]
    stream = await house.client().chat.completions.create(**ASK, stream=True)
    await anext(stream)
    first = (await eventually(lambda: house.rows(status="open")))[0].lease_until
    flushed = await eventually(lambda: house.rows(status="open", completion_tokens=2))
    assert flushed[0].lease_until > first
    assert [event.choices[0].delta.content async for event in stream] == ["b"]
    row = await house.row()
    assert (row.status, row.completion_tokens, row.tokens_exact) == ("done", 3, True)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_rows_of_a_killed_gateway_are_closed_once_by_another_with_their_last_count(
    house: House,
) -> None:
    house.upstream.script = [chunk(ID, "a"), chunk(ID, "b"), 60.0]
    async with gateway_process(house) as (process, url):
        client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=house.key, max_retries=0)
        stream = await client.chat.completions.create(**ASK, stream=True)
        await anext(stream)
        await eventually(lambda: house.rows(status="open", completion_tokens=2), 8)
        process.send_signal(signal.SIGKILL)
    with pytest.raises(openai.APIConnectionError):
        _ = [event async for event in stream]
    await client.close()
    # Its lease runs out 15 s from now: let it have run out already.
    async with house.database.session() as session:
        await session.execute(update(Completion).values(lease_until=now() - timedelta(seconds=1)))
    [row] = await eventually(lambda: house.rows(status="interrupted"))
    assert (row.id, row.completion_tokens, row.tokens_exact, row.lease_until) == (ID, 2, False, None)


async def test_a_gateway_that_is_stopped_closes_its_open_rows(house: House) -> None:
    house.upstream.script = [chunk(ID, "a"), 30.0]
    async with listening(house.settings) as url:
        client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=house.key, max_retries=0)
        stream = await client.chat.completions.create(**ASK, stream=True)
        await anext(stream)
        await eventually(lambda: house.rows(status="open"))
    assert (await house.row()).status == "interrupted"
    await client.close()


@both_databases
async def test_of_many_at_once_each_whole_answer_has_one_final_row_and_none_stays_open(house: House) -> None:
    house.upstream.script = None
    random = Random(7)
    headers = {"authorization": f"Bearer {house.key}"}

    async def ask(session: aiohttp.ClientSession, leaves: bool) -> str | None:
        body = {**ASK, "stream": True, "metadata": {"conversation_id": f"c{random.random()}"}}
        async with session.post(f"{house.url}/v1/chat/completions", json=body) as response:
            if leaves:
                response.close()
                return None
            content = await response.read()
            return response.headers["x-onggi-completion"] if content.endswith(DONE) else None

    async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=0)) as session:
        ended = await asyncio.gather(*(ask(session, random.random() < 0.3) for _ in range(150)))
    whole = [id_ for id_ in ended if id_]
    assert len(whole) > 80
    await eventually(lambda: _none_open(house))
    done = {row.id for row in await house.rows(status="done")}
    assert set(whole) <= done
    assert {row.status for row in await house.rows()} <= {"done", "interrupted"}


async def _none_open(house: House) -> bool:
    return not await house.rows(status="open")


async def test_after_a_broken_stream_the_next_one_is_whole(house: House) -> None:
    house.upstream.script = [chunk(ID, "a"), BROKEN]
    _, error = await read_stream(house)
    assert error is not None
    house.upstream.script = None
    assert await read_stream(house) == ("Hello.", None)
