"""The chat path through the official SDK."""

import asyncio
import io
import json
from contextlib import suppress

import aiohttp
import openai
import pytest

from services.gateway.requests import LARGEST_BODY
from tests.services.gateway.conftest import House, both_databases, eventually
from tests.services.gateway.fake_upstream import BASE, DONE, chunk, usage, whole

HELLO = [{"role": "user", "content": "Hello"}]
ASK = {"model": "support-bot", "messages": HELLO}


async def raw_stream(house: House, **more: object) -> tuple[bytes, dict[str, str]]:
    """The bytes of a streamed answer, and its headers."""
    headers = {"authorization": f"Bearer {house.key}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{house.url}/v1/chat/completions", json={**ASK, "stream": True, **more}) as response,
    ):
        assert response.status == 200, await response.text()
        return await response.read(), {name.lower(): value for name, value in response.headers.items()}


@both_databases
async def test_a_whole_answer_comes_as_the_upstream_gave_it_and_its_row_is_final(house: House) -> None:
    response = await house.client().chat.completions.with_raw_response.create(**ASK)
    answer = response.parse()
    assert answer.choices[0].message.content == "Hello."
    row = await house.row()
    assert (row.id, row.status, row.bot, row.version, row.arm) == (
        answer.id,
        "done",
        "support-bot",
        1,
        "champion",
    )
    assert (row.prompt_tokens, row.completion_tokens, row.tokens_exact) == (7, 3, True)
    assert (row.finish_reason, row.status_code, row.stream) == ("stop", 200, False)
    assert row.latency_ms > 0
    assert row.finished_at is not None
    assert response.headers["x-onggi-model"] == "support-bot@1"
    assert response.headers["x-onggi-completion"] == answer.id
    assert response.headers["x-onggi-conversation"] == row.conversation_key
    assert response.headers["x-request-id"].startswith("req_")


@both_databases
async def test_a_streamed_answer_has_exactly_one_final_row_when_its_end_leaves(house: House) -> None:
    stream = await house.client().chat.completions.create(**ASK, stream=True)
    text = ""
    async for event in stream:
        assert event.usage is None
        text += event.choices[0].delta.content or ""
    assert text == "Hello."
    row = await house.row()
    assert (row.status, row.stream, row.lease_until) == ("done", True, None)
    assert (row.prompt_tokens, row.completion_tokens, row.tokens_exact) == (7, 3, True)
    assert 0 < row.ttft_ms <= row.latency_ms


async def test_content_events_are_forwarded_byte_for_byte_and_only_the_usage_event_is_removed(
    house: House,
) -> None:
    id_ = "chatcmpl-0123456789abcdef0123"
    odd = (
        b'data: {"id": "%s",  "choices":[{"index":0,"delta":{"content":"\\u00e9 \\"usage\\": {"}}] }\r\n\r\n'
    )
    kept = [b": ping\n\n", chunk(id_), odd % id_.encode(), 'data: {"choices":[],"x":"é"}\n\n'.encode()]
    house.upstream.script = [*kept, usage(id_), DONE]
    body, headers = await raw_stream(house)
    assert body == b"".join(kept) + DONE
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert house.upstream.bodies[-1]["stream_options"] == {"include_usage": True}


async def test_events_cut_anywhere_by_the_network_arrive_whole(house: House) -> None:
    id_ = "chatcmpl-0123456789abcdef0123"
    events = b"".join([chunk(id_), chunk(id_, "Hé"), chunk(id_, finish="stop")])
    pieces = [events[place : place + 7] for place in range(0, len(events), 7)]
    house.upstream.script = [*pieces, 0.01, usage(id_)[:20], 0.01, usage(id_)[20:] + DONE[:5], 0.01, DONE[5:]]
    body, _ = await raw_stream(house)
    assert body == events + DONE
    assert (await house.row()).completion_tokens == 3


async def test_a_caller_that_asks_for_usage_gets_every_byte(house: House) -> None:
    body, _ = await raw_stream(house, stream_options={"include_usage": True})
    assert body == bytes(house.upstream.sent)
    assert b'"usage":{' in body


async def test_the_first_event_comes_while_the_upstream_still_generates(house: House) -> None:
    id_ = "chatcmpl-0123456789abcdef0123"
    house.upstream.script = [chunk(id_, "Hel"), 0.6, chunk(id_, "lo."), usage(id_), DONE]
    stream = await house.client().chat.completions.create(**ASK, stream=True)
    first = await anext(stream)
    assert first.choices[0].delta.content == "Hel"
    open_row = await eventually(lambda: house.rows(status="open"))
    assert open_row[0].id == id_
    assert open_row[0].lease_until is not None
    assert [event.choices[0].delta.content async for event in stream] == ["lo."]
    assert (await house.row()).status == "done"


async def test_defaults_fill_in_what_the_caller_left_out(house: House) -> None:
    client = house.client()
    await client.chat.completions.create(**ASK)
    await client.chat.completions.create(**ASK, temperature=0, max_completion_tokens=5)
    first, second = house.upstream.bodies
    assert (first["temperature"], first["max_tokens"]) == (0.7, 512)
    assert (second["temperature"], second["max_completion_tokens"]) == (0, 5)
    assert "max_tokens" not in second
    assert first["model"] == "support-bot@1"


async def test_vllms_sampling_fields_and_tools_are_passed_on_as_they_are(house: House) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    await house.client().chat.completions.create(**ASK, tools=[tool], extra_body={"top_k": 3, "min_p": 0.1})
    sent = house.upstream.bodies[-1]
    assert (sent["top_k"], sent["min_p"], sent["tools"]) == (3, 0.1, [tool])


async def test_what_is_ours_stays_here(house: House) -> None:
    await house.client().chat.completions.create(
        **ASK, user="u-1", safety_identifier="s-1", service_tier="auto", metadata={"a": "b"}, store=True
    )
    assert not {"user", "safety_identifier", "service_tier", "metadata", "store"} & set(
        house.upstream.bodies[-1]
    )
    request = (await house.row()).request
    assert (request["user"], request["safety_identifier"], request["service_tier"]) == ("u-1", "s-1", "auto")
    assert request["metadata"] == {"a": "b"}
    assert request["parameters"]["temperature"] == 0.7


async def test_text_is_kept_only_where_the_caller_said_so(house: House) -> None:
    client = house.client()
    await client.chat.completions.create(**ASK, metadata={"topic": "private"})
    await client.chat.completions.create(**ASK, store=True)
    async for _ in await client.chat.completions.create(**ASK, store=True, stream=True):
        pass
    unkept, *kept = await house.rows()
    assert (unkept.stored, unkept.messages, unkept.answer, unkept.request) == (False, None, None, None)
    for row in kept:
        assert row.messages == HELLO
        assert row.answer["choices"] == [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello."}}
        ]


async def test_text_that_postgresql_refuses_is_stored_without_the_bad_characters(house: House) -> None:
    house.upstream.reply = json.loads(json.dumps(whole("chatcmpl-0123456789abcdef0123", "a\x00\ud800b")))
    await house.client().chat.completions.create(**ASK, store=True)
    row = await house.row()
    assert row.answer["choices"][0]["message"]["content"] == "a\ufffd\ufffdb"


async def test_ids_that_the_upstream_gives_twice_make_two_rows(house: House) -> None:
    house.upstream.reply = whole("chatcmpl-0123456789abcdef0123")
    client = house.client()
    await asyncio.gather(*(client.chat.completions.create(**ASK) for _ in range(5)))
    assert len({row.id for row in await house.rows(status="done")}) == 5


async def test_a_short_id_of_the_upstream_is_replaced_in_the_row_and_the_header_says_by_which(
    house: House,
) -> None:
    house.upstream.reply = whole("chatcmpl-999")
    response = await house.client().chat.completions.with_raw_response.create(**ASK)
    assert response.parse().id == "chatcmpl-999"
    assert (await house.row()).id == response.headers["x-onggi-completion"] != "chatcmpl-999"


async def test_legacy_completions_go_the_same_way(house: House) -> None:
    house.upstream.reply = {
        "id": "cmpl-0123456789abcdef0123",
        "object": "text_completion",
        "created": 1,
        "model": BASE,
        "choices": [{"index": 0, "text": "four", "finish_reason": "length"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6},
    }
    answer = await house.client().completions.create(model="support-bot@2", prompt="two and two")
    assert answer.choices[0].text == "four"
    row = await house.row()
    assert (row.id, row.arm, row.version, row.completion_tokens) == (answer.id, "pinned", 2, 1)
    assert (row.stored, row.messages, row.answer) == (False, None, None)


async def test_streams_one_after_another_share_a_connection_to_the_upstream(house: House) -> None:
    for _ in range(5):
        await raw_stream(house)
    assert len(house.upstream.connections) == 1


async def test_no_text_and_no_key_goes_into_a_log(house: House, logs: io.StringIO) -> None:
    secret = "the-words-of-a-person"
    ask = {**ASK, "messages": [{"role": "user", "content": secret}], "store": True}
    for reply in (None, whole("chatcmpl-0123456789abcdef0123", secret), b"{%s" % secret.encode()):
        house.upstream.reply = reply
        with suppress(openai.APIStatusError):
            await house.client().chat.completions.create(**ask, user=secret)
    assert "completion" in logs.getvalue()
    assert secret not in logs.getvalue()
    assert house.key not in logs.getvalue()


async def test_the_upstreams_key_goes_upstream_and_the_callers_never(house: House) -> None:
    await house.client().chat.completions.create(**ASK, extra_headers={"x-request-id": "mine"})
    sent = house.upstream.headers[-1]
    assert "authorization" not in sent
    assert house.key not in str(sent)
    assert sent["x-request-id"] != "mine"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"extra_body": {"temprature": 1}}, "temprature"),
        ({"extra_body": {"chat_template": "{{ evil }}"}}, "chat_template"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"n": 9}, "n"),
        ({"n": 0}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ({"messages": []}, "messages"),
        ({"messages": ["hi"]}, "messages.[0].role"),
        ({"model": ""}, "model"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        (
            {"stream": True, "stream_options": {"continuous_usage_stats": True}},
            "stream_options.continuous_usage_stats",
        ),
        ({"store": "yes"}, "store"),
    ],
)
async def test_a_request_that_cannot_be_served_is_a_400_that_names_the_field(
    house: House, change: dict[str, object], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await house.client().chat.completions.create(**{**ASK, **change})
    assert refused.value.param == param
    assert refused.value.type == "invalid_request_error"
    assert not house.upstream.bodies


async def test_a_body_that_is_no_json_or_too_large_is_refused_in_openais_shape(house: House) -> None:
    headers = {"authorization": f"Bearer {house.key}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        for body, status in ((b"{", 400), (b"[]", 400), (b"\xff", 400), (b" " * (LARGEST_BODY + 1), 413)):
            async with session.post(f"{house.url}/v1/chat/completions", data=body) as response:
                assert response.status == status
                assert (await response.json())["error"]["type"] == "invalid_request_error"
