"""The gateway in front of the real vLLM, as the demo runs it."""

from collections.abc import AsyncIterator
from typing import Any, Protocol

import aiohttp
import pytest
from openai import AsyncOpenAI, BadRequestError, NotFoundError

HELLO = [{"role": "user", "content": "Say hello."}]


class Demo(Protocol):
    """What these tests need of the running demo."""

    gateway_url: str
    owner_key: str
    base_name: str
    bot: str


@pytest.fixture
async def client(demo: Demo) -> AsyncIterator[AsyncOpenAI]:
    made = AsyncOpenAI(base_url=f"{demo.gateway_url}/v1", api_key=demo.owner_key, max_retries=0)
    yield made
    await made.close()


async def test_base_and_bot_answer_whole_and_streamed_with_the_same_greedy_text(
    demo: Demo, client: AsyncOpenAI
) -> None:
    for model in (demo.base_name, demo.bot):
        ask: dict[str, Any] = {"model": model, "messages": HELLO, "temperature": 0, "max_tokens": 12}
        whole = await client.chat.completions.create(**ask)
        events = [event async for event in await client.chat.completions.create(**ask, stream=True)]
        text = "".join(event.choices[0].delta.content or "" for event in events)
        assert text == whole.choices[0].message.content
        assert text
        assert len({event.id for event in events}) == 1


async def test_the_row_says_what_vllm_counted_and_which_version_answered(
    demo: Demo, client: AsyncOpenAI
) -> None:
    response = await client.chat.completions.with_raw_response.create(
        model=f"{demo.bot}@1", messages=HELLO, max_tokens=7, store=True, extra_body={"ignore_eos": True}
    )
    answer = response.parse()
    kept = await client.chat.completions.retrieve(response.headers["x-onggi-completion"])
    assert kept.id == answer.id
    assert kept.model == response.headers["x-onggi-model"] == f"{demo.bot}@1"
    assert kept.usage == answer.usage
    assert kept.usage.completion_tokens == 7
    assert kept.choices[0].message.content == answer.choices[0].message.content


async def test_what_vllm_refuses_comes_in_openais_shape_with_its_words(
    demo: Demo, client: AsyncOpenAI
) -> None:
    with pytest.raises(BadRequestError) as refused:
        await client.chat.completions.create(model=demo.base_name, messages=HELLO, temperature=-1)
    assert "temperature" in refused.value.message
    assert refused.value.type == "invalid_request_error"
    with pytest.raises(NotFoundError) as unknown:
        await client.chat.completions.create(model=f"{demo.bot}@999", messages=HELLO)
    assert unknown.value.code == "model_not_found"


async def test_a_stream_of_vllm_passes_byte_for_byte(demo: Demo) -> None:
    body = {
        "model": demo.base_name,
        "messages": HELLO,
        "stream": True,
        "max_tokens": 5,
        "stream_options": {"include_usage": True},
    }
    headers = {"authorization": f"Bearer {demo.owner_key}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{demo.gateway_url}/v1/chat/completions", json=body) as response,
    ):
        events = (await response.read()).split(b"\n\n")
    assert events[-2:] == [b"data: [DONE]", b""]
    assert b'"usage":{' in events[-3]
    assert all(event.startswith(b'data: {"id":"chatcmpl-') for event in events[:-2])
    assert response.headers["x-onggi-completion"].encode() in events[0]


async def test_vllms_bases_and_our_names_are_one_list(demo: Demo, client: AsyncOpenAI) -> None:
    listed = [model.id async for model in client.models.list()]
    assert len(listed) == len(set(listed))
    assert {demo.base_name, demo.bot, f"{demo.bot}@1"} <= set(listed)
