"""Server-sent events and the answers put together from them."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.gateway.answers import Answer, whole
from services.gateway.events import Event, split


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for place in range(0, len(data), size):
        yield data[place : place + size]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("separator", [b"\n\n", b"\r\n\r\n", b"\r\r"])
async def test_events_are_whole_whatever_the_chunks(size: int, separator: bytes) -> None:
    events = [b"data: {}", b": comment", b"event: x\ndata: 1", b"data: [DONE]"]
    data = separator.join([*events, b"unfinished"])
    got = [event.raw async for batch in split(pieces(data, size)) for event in batch]
    assert got == [event + separator for event in events]


def event(**data: Any) -> Event:
    return Event(b"data: " + json.dumps(data).encode() + b"\n\n")


def test_an_answer_that_quotes_json_is_not_mistaken_for_it() -> None:
    quoting = event(choices=[{"delta": {"content": '"usage": {"a": 1} "error": {} "finish_reason": "stop"'}}])
    assert quoting.usage() is None
    assert quoting.error() is None
    assert quoting.finish_reason is None
    assert not quoting.is_done
    assert quoting.has_text


def test_only_the_event_without_choices_is_the_usage_event() -> None:
    assert event(choices=[], usage={"prompt_tokens": 1}).is_only_usage()
    last = event(choices=[{"finish_reason": "stop"}], usage={"prompt_tokens": 1})
    assert not last.is_only_usage()
    assert last.usage() == {"prompt_tokens": 1}
    assert event(choices=[], usage=None).usage() is None


def test_an_event_that_opens_the_answer_carries_no_text() -> None:
    assert not event(choices=[{"delta": {"role": "assistant", "content": ""}}]).has_text
    assert event(choices=[{"delta": {"content": '"'}}]).has_text


def test_text_and_tool_calls_are_put_together_by_choice_and_index() -> None:
    answer = Answer()
    for index, delta, reason in (
        (0, {"role": "assistant", "content": "", "tool_calls": None}, None),
        (1, {"role": "assistant", "content": "B"}, None),
        (0, {"content": "A"}, None),
        (0, {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "f", "arguments": '{"a'}}]}, None),
        (0, {"tool_calls": [{"index": 0, "function": {"arguments": '":1}'}}]}, None),
        (0, {"tool_calls": [{"index": 1, "id": "c2", "function": {"name": "g", "arguments": "{}"}}]}, None),
        (0, {}, "tool_calls"),
        (1, {}, "stop"),
    ):
        answer.add({"choices": [{"index": index, "delta": delta, "finish_reason": reason}]})
    first, second = answer.as_json()["choices"]
    assert first["finish_reason"] == "tool_calls"
    assert first["message"]["content"] == "A"
    assert [(call["id"], call["function"]) for call in first["message"]["tool_calls"]] == [
        ("c1", {"name": "f", "arguments": '{"a":1}'}),
        ("c2", {"name": "g", "arguments": "{}"}),
    ]
    assert second == {"index": 1, "finish_reason": "stop", "message": {"role": "assistant", "content": "B"}}


def test_a_whole_answer_has_the_same_form() -> None:
    response = {
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "A"}, "logprobs": None}]
    }
    assert whole(response) == {
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "A"}}]
    }
