"""What people said, as control hands it out, and the rows that can be made of it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, TypeAdapter

from common.control_client import ControlClient

PAGE = 200
Message = dict[str, Any]
_KEYS = ("role", "content", "name", "tool_calls", "tool_call_id")


class _Example(BaseModel):
    id: str
    person_id: str
    conversation_key: str
    messages: list[Message]
    tools: list[dict[str, Any]] | None


class Said(_Example):
    """An opinion on one answer; ``correction`` is the answer as it should have been."""

    kind: Literal["feedback"]
    completion_id: str
    rating: int | None
    correction: str | None
    answer: Message

    @property
    def corrected(self) -> bool:
        """Whether another answer was written in place of this one."""
        return bool(self.correction) and self.correction != self.answer.get("content")


class Chosen(_Example):
    """A blind choice between two answers."""

    kind: Literal["comparison"]
    choice: Literal["first", "second", "tie"]
    first: Message
    second: Message


Example = Said | Chosen
_PAGE: TypeAdapter[list[Example]] = TypeAdapter(list[Annotated[Example, Field(discriminator="kind")]])


@dataclass(frozen=True)
class Draft:
    """A row as JSON, not yet checked, and the example that it is made of."""

    kind: Literal["chat", "preference", "label"]
    value: dict[str, Any]
    example: Example


def read(control: ControlClient, bot: str, *, unreviewed: bool = False) -> list[Example]:
    """Everything that may be learned from, each once; what changes meanwhile is taken as it is last seen.

    Raises:
        ControlUnavailable, ControlRefused.
    """
    found: dict[str, Example] = {}
    after, more = "", True
    while more:
        page = control.get("/onggi/v1/examples", bot=bot, after=after, limit=PAGE, unreviewed=unreviewed)
        for example in _PAGE.validate_python(page["data"]):
            found.pop(example.id, None)
            found[example.id] = example
        after, more = page["next"] or after, page["has_more"]
    return list(found.values())


def sides(control: ControlClient, bot: str) -> dict[str, bool]:
    """Which conversations earlier datasets of ``bot`` had, by key: True where they are held out.

    Raises:
        ControlUnavailable, ControlRefused.
    """
    recorded = control.get(f"/onggi/v1/bots/{bot}/sides")
    return dict.fromkeys(recorded["learned"], False) | dict.fromkeys(recorded["held_out"], True)


def draft(examples: Iterable[Example]) -> Iterator[Draft]:
    """The rows of ``examples``, which are in the order of their last change.

    Of several opinions on one answer the last correction counts, else the last rating.
    """
    by_answer: dict[str, list[Said]] = {}
    for example in examples:
        if isinstance(example, Chosen):
            yield from _choice(example)
        else:
            by_answer.setdefault(example.completion_id, []).append(example)
    for opinions in by_answer.values():
        yield from _opinion(opinions)


def _opinion(opinions: Sequence[Said]) -> Iterator[Draft]:
    corrections = [said for said in opinions if said.corrected]
    rated = [said for said in opinions if said.rating is not None or said.correction]
    if corrections:
        said = corrections[-1]
        right = {"role": "assistant", "content": said.correction}
        rejected = str(said.answer.get("content") or "")
        # An answer without text (a tool call) rejects nothing that could be told.
        opinion = {"onggi": {"kind": "correction", "rejected": rejected}} if rejected.strip() else {}
        yield Draft("chat", _chat(said, right) | opinion, said)
        if rejected.strip():
            yield Draft("preference", _preference(said, right, said.answer), said)
    elif rated and (rated[-1].rating == 1 or rated[-1].correction):
        said = rated[-1]
        yield Draft("chat", _chat(said, said.answer) | {"onggi": {"kind": "accepted"}}, said)
        yield Draft("label", _conversation(said, said.answer) | {"label": True}, said)
    elif rated:
        yield Draft("label", _conversation(rated[-1], rated[-1].answer) | {"label": False}, rated[-1])


def _choice(example: Chosen) -> Iterator[Draft]:
    if example.choice != "tie":
        pair = (example.first, example.second)
        preferred, rejected = pair if example.choice == "first" else pair[::-1]
        yield Draft("preference", _preference(example, preferred, rejected), example)


def _chat(said: Said, answer: Message) -> dict[str, Any]:
    """The conversation, of which only ``answer`` is learned: nobody said anything about the earlier ones."""
    row = _conversation(said, answer)
    *earlier, last = row["messages"]
    unlearned = [
        message | {"weight": 0} if message["role"] == "assistant" else message for message in earlier
    ]
    return row | {"messages": [*unlearned, last]}


def _conversation(example: Example, answer: Message) -> dict[str, Any]:
    return _asked(example) | {"messages": [*_asked(example)["messages"], _known(answer)]}


def _preference(example: Example, preferred: Message, rejected: Message) -> dict[str, Any]:
    return {
        "input": _asked(example),
        "preferred_output": [_known(preferred)],
        "non_preferred_output": [_known(rejected)],
    }


def _asked(example: Example) -> dict[str, Any]:
    tools = {"tools": example.tools} if example.tools else {}
    return {"messages": [_known(message) for message in example.messages], **tools}


def _known(message: Message) -> Message:
    """What a row may have of a message; what servers add to theirs (refusal, reasoning) is no part of it."""
    kept = {key: message[key] for key in _KEYS if message.get(key)}
    return {"role": "assistant"} | kept
