"""The three kinds of row, after OpenAI's fine-tuning formats.

https://platform.openai.com/docs/guides/supervised-fine-tuning and .../direct-preference-optimization
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import StrictBool, ValidationError, model_validator
from pydantic_core import ErrorDetails

from common.rows.messages import ChatMessage, Conversation, Message, Strict, require_answer
from common.rows.split import conversation_key

Kind = Literal["chat", "preference", "label"]


class Opinion(Strict):
    """What a person thought of the row's last answer: accepted it, or wrote it in place of ``rejected``."""

    kind: Literal["correction", "accepted"]
    rejected: str | None = None

    @model_validator(mode="after")
    def _only_a_correction_rejects(self) -> Self:
        if self.kind == "correction" and not (self.rejected or "").strip():
            raise ValueError("a correction says which answer it rejected")
        if self.kind == "accepted" and self.rejected is not None:
            raise ValueError("an accepted answer rejects none: leave rejected out")
        return self


@dataclass(frozen=True)
class BaseRow:
    """What every row has; ``line`` counts from 1."""

    line: int
    key: str
    source_id: str | None
    messages: list[Message]
    tools: list[dict[str, Any]] | None

    def _common(self) -> dict[str, Any]:
        return {"key": self.key} | ({"source_id": self.source_id} if self.source_id else {})

    def _conversation(self) -> dict[str, Any]:
        return {"messages": self.messages} | ({"tools": self.tools} if self.tools else {})


@dataclass(frozen=True)
class ChatRow(BaseRow):
    """A conversation whose assistant messages are learned, unless their weight is 0.

    ``opinion`` is for judging only.
    """

    kind: Kind = "chat"
    opinion: Opinion | None = None

    def as_json(self) -> dict[str, Any]:
        """The row as it is written to a file."""
        said = {"onggi": self.opinion.model_dump(exclude_none=True)} if self.opinion else {}
        return self._conversation() | self._common() | said


@dataclass(frozen=True)
class PreferenceRow(BaseRow):
    """A conversation (``messages``) with the answer people preferred and the one they did not."""

    preferred: Message
    rejected: Message
    kind: Kind = "preference"

    def as_json(self) -> dict[str, Any]:
        """The row as it is written to a file."""
        outputs = {"preferred_output": [self.preferred], "non_preferred_output": [self.rejected]}
        return {"input": self._conversation()} | outputs | self._common()


@dataclass(frozen=True)
class LabelRow(BaseRow):
    """A conversation whose last answer people found good (``label`` true) or bad."""

    label: bool
    kind: Kind = "label"

    def as_json(self) -> dict[str, Any]:
        """The row as it is written to a file."""
        return self._conversation() | {"label": self.label} | self._common()


Row = ChatRow | PreferenceRow | LabelRow


def parse_row(line: int, value: Any) -> Row:
    """The row that the JSON ``value`` of ``line`` holds.

    Raises:
        ValueError: its reasons, separated by semicolons, each naming the key.
    """
    if not isinstance(value, dict):
        raise ValueError(f"is a JSON {type(value).__name__}, not an object like {{'messages': [...]}}")
    if not _is_unicode(value):
        raise ValueError("has half of a surrogate pair (\\ud800 to \\udfff alone): write the whole character")
    try:
        return _MODELS[_kind(value)].model_validate(value).row(line)
    except ValidationError as error:
        reasons = (_reason(problem) for problem in error.errors(include_url=False))
        raise ValueError("; ".join(reasons)) from None


def _is_unicode(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind(value: Mapping[str, Any]) -> Kind:
    if {"input", "preferred_output", "non_preferred_output"} & value.keys():
        return "preference"
    return "label" if "label" in value else "chat"


def _reason(problem: ErrorDetails) -> str:
    where = ""
    for part in problem["loc"]:
        where += f"[{part}]" if isinstance(part, int) else f".{part}" if where else str(part)
    match problem["type"]:
        case "extra_forbidden":
            return f"{where} is not a known key"
        case "missing":
            return f"{where} is missing"
        case "value_error":
            text = problem["msg"].removeprefix("Value error, ")
            return f"{where}: {text}" if where else text
        case _:
            return f"{where} = {_short(problem['input'])}: {problem['msg'][0].lower()}{problem['msg'][1:]}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


class _Origin(Strict):
    key: str | None = None
    source_id: str | None = None


class _ChatModel(Conversation, _Origin):
    onggi: Opinion | None = None

    @model_validator(mode="after")
    def _has_an_answer(self) -> Self:
        require_answer(self.messages)
        if self.onggi and self.onggi.rejected == self.messages[-1].content:
            raise ValueError("onggi.rejected is the row's own answer: it is corrected in nothing")
        if all(message.weight == 0 for message in self.messages if message.role == "assistant"):
            raise ValueError("every assistant message has weight 0: there is nothing to learn")
        return self

    def row(self, line: int) -> ChatRow:
        messages = self.plain_messages()
        key = self.key or conversation_key(messages)
        return ChatRow(line, key, self.source_id, messages, self.plain_tools(), opinion=self.onggi)


class _LabelModel(Conversation, _Origin):
    label: StrictBool

    @model_validator(mode="after")
    def _has_an_answer(self) -> Self:
        require_answer(self.messages)
        return self

    def row(self, line: int) -> LabelRow:
        messages = self.plain_messages()
        key = self.key or conversation_key(messages)
        return LabelRow(line, key, self.source_id, messages, self.plain_tools(), self.label)


class _PreferenceModel(_Origin):
    input: Conversation
    preferred_output: list[ChatMessage]
    non_preferred_output: list[ChatMessage]

    @model_validator(mode="after")
    def _compares_two_answers(self) -> Self:
        if not self.input.messages or self.input.messages[-1].role not in ("user", "tool"):
            raise ValueError("input must end with the user's message, which both outputs answer")
        for name in ("preferred_output", "non_preferred_output"):
            if [message.role for message in getattr(self, name)] != ["assistant"]:
                raise ValueError(f"{name} must hold exactly one assistant message")
        if self.preferred_output == self.non_preferred_output:
            raise ValueError("preferred_output and non_preferred_output are the same answer")
        return self

    def row(self, line: int) -> PreferenceRow:
        messages = self.input.plain_messages()
        key = self.key or conversation_key(messages)
        outputs = self.preferred_output[0].plain(), self.non_preferred_output[0].plain()
        return PreferenceRow(line, key, self.source_id, messages, self.input.plain_tools(), *outputs)


_MODELS: dict[Kind, type[_ChatModel] | type[_LabelModel] | type[_PreferenceModel]] = {
    "chat": _ChatModel,
    "label": _LabelModel,
    "preference": _PreferenceModel,
}
