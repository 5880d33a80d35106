"""The text of an answer, put together from a stream's deltas or taken from a whole response, to be stored."""

from typing import Any


class Answer:
    """Collects what each choice of a streamed completion said.

    The stored form is OpenAI's own: ``{"choices": [{"index", "finish_reason", "message"}]}``.
    """

    def __init__(self) -> None:
        self._choices: dict[int, dict[str, Any]] = {}

    def add(self, event: dict[str, Any]) -> None:
        """Take in one parsed ``chat.completion.chunk``."""
        for choice in event.get("choices") or ():
            kept = self._choices.setdefault(
                choice.get("index", 0),
                {"index": choice.get("index", 0), "finish_reason": None, "message": {"role": "assistant"}},
            )
            kept["finish_reason"] = choice.get("finish_reason") or kept["finish_reason"]
            _merge(kept["message"], choice.get("delta") or {})

    def as_json(self) -> dict[str, Any]:
        """What is stored of it so far."""
        return {"choices": [self._choices[index] for index in sorted(self._choices)]}


def whole(response: dict[str, Any]) -> dict[str, Any]:
    """The stored form of a response that came in one piece."""
    kept = ("index", "finish_reason", "message")
    return {
        "choices": [
            {name: choice[name] for name in kept if name in choice}
            for choice in response.get("choices") or ()
        ]
    }


def _merge(message: dict[str, Any], delta: dict[str, Any]) -> None:
    """Append one delta: texts are joined, tool calls by their index, anything else replaces."""
    for name, value in delta.items():
        if value is None:
            message.setdefault(name, None)
        elif name == "tool_calls":
            message["tool_calls"] = _merge_calls(message.get("tool_calls") or [], value)
        elif name != "role" and isinstance(value, str) and isinstance(message.get(name), str):
            message[name] += value
        else:
            message[name] = value


def _merge_calls(calls: list[dict[str, Any]], deltas: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for delta in deltas:
        index = min(delta.get("index", len(calls)), len(calls))
        if index == len(calls):
            calls.append({"id": None, "type": "function", "function": {"name": "", "arguments": ""}})
        call, function = calls[index], delta.get("function") or {}
        call["id"] = delta.get("id") or call["id"]
        call["function"]["name"] += function.get("name") or ""
        call["function"]["arguments"] += function.get("arguments") or ""
    return calls
