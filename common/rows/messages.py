"""Messages, tools and conversations as OpenAI's chat API has them, and the order of turns.

https://platform.openai.com/docs/api-reference/chat/create
"""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

Message = dict[str, Any]


def _flatten(content: Any) -> Any:
    """Text parts joined by line breaks, as vLLM joins them; anything but text is refused."""
    if not isinstance(content, list):
        return content
    texts = []
    for index, part in enumerate(content):
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            raise ValueError(f"part {index} is {kind!r}: only text parts can be learned")
        texts.append(part["text"])
    return "\n".join(texts)


class Strict(BaseModel):
    """A shape without room for unknown keys."""

    model_config = ConfigDict(extra="forbid")


class _Call(Strict):
    name: str
    arguments: str

    @model_validator(mode="after")
    def _arguments_are_an_object(self) -> Self:
        try:
            parsed = json.loads(self.arguments)
        except json.JSONDecodeError:
            parsed = None
        if not isinstance(parsed, dict):
            raise ValueError("arguments must be a string that holds a JSON object")
        return self


class _ToolCall(Strict):
    id: str
    type: Literal["function"] = "function"
    function: _Call


class _Function(Strict):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _Tool(Strict):
    type: Literal["function"]
    function: _Function


class ChatMessage(Strict):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[str | None, BeforeValidator(_flatten)] = None
    name: str | None = None
    weight: Literal[0, 1] | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_call_id: str | None = None

    @model_validator(mode="after")
    def _keys_fit_the_role(self) -> Self:
        if self.role != "assistant" and self.weight is not None:
            raise ValueError("only an assistant message has a weight")
        if self.role != "assistant" and self.tool_calls:
            raise ValueError("only an assistant message has tool_calls")
        if (self.role == "tool") != (self.tool_call_id is not None):
            raise ValueError("a tool message, and no other, has a tool_call_id")
        if not (self.content or "").strip() and not self.tool_calls:
            raise ValueError(f"the {self.role} message is empty: its content has no text")
        return self

    def plain(self) -> Message:
        """As chat templates take it: a plain dictionary, ``developer`` by its older name ``system``."""
        message = self.model_dump(exclude_none=True)
        return message | {"role": "system"} if self.role == "developer" else message


class Conversation(Strict):
    """Messages in an order that every chat template can render, with the tools they may call."""

    messages: list[ChatMessage]
    tools: list[_Tool] | None = None
    parallel_tool_calls: bool | None = None

    @model_validator(mode="after")
    def _turns_are_in_order(self) -> Self:
        previous = None
        for index, message in enumerate(self.messages):
            reason = _out_of_order(previous, message)
            if reason:
                raise ValueError(f"messages[{index}] {reason}")
            previous = message
        return self

    def plain_messages(self) -> list[Message]:
        """The messages as chat templates take them."""
        return [message.plain() for message in self.messages]

    def plain_tools(self) -> list[dict[str, Any]] | None:
        """The tools as chat templates take them."""
        return [tool.model_dump(exclude_none=True) for tool in self.tools] if self.tools else None


def _out_of_order(previous: ChatMessage | None, message: ChatMessage) -> str | None:
    before = previous.role if previous else None
    match message.role:
        case "system" | "developer":
            return (
                f"is a second or late {message.role} message: only the first may be one" if before else None
            )
        case "user":
            fine = before in (None, "system", "developer") or (before == "assistant" and not _calls(previous))
            return None if fine else f"is a user message {_after(previous)}: user and assistant take turns"
        case "assistant":
            fine = before in ("user", "tool")
            return None if fine else f"is an assistant message {_after(previous)}, not after a question"
        case "tool":
            fine = before == "tool" or _calls(previous)
            return None if fine else f"is a tool message {_after(previous)}, not after a tool call"


def _calls(message: ChatMessage | None) -> bool:
    return bool(message and message.tool_calls)


def _after(previous: ChatMessage | None) -> str:
    if previous is None:
        return "at the start"
    if previous.tool_calls:
        return "after a tool call"
    return f"after {'an' if previous.role == 'assistant' else 'a'} {previous.role} message"


def require_answer(messages: Sequence[ChatMessage]) -> None:
    """Raise a ValueError unless the conversation ends with an answer."""
    if not any(message.role == "assistant" for message in messages):
        raise ValueError("has no assistant message: there is nothing to learn")
    if messages[-1].role != "assistant":
        raise ValueError(f"ends with a {messages[-1].role} message: the last must be the assistant's")
