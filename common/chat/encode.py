"""Token ids of a conversation and which of them the model learns: its answers and the ends of its turns.

What the assistant wrote is taken from the template's ``{% generation %}`` markers where it has them. Where it
has none, an answer is what follows the prompt that the model would have been given there, and both that
prompt and the conversation up to the answer's end must be a token prefix of the whole: then training sees
exactly the ids that serving makes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from common.chat.template import apply, has_generation_markers, render, require_one_bos, tokenize
from common.chat.tokens import ControlTokens
from common.errors import UserError
from common.rows import ChatRow, DatasetError, Problem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Messages = Sequence[Mapping[str, Any]]
Tools = Sequence[Mapping[str, Any]] | None

_CHANGES_LATER = (
    ": the chat template renders what comes before this answer otherwise once more turns follow, so it "
    "cannot be learned here: give it weight 0, or end a row of its own with it"
)


@dataclass(frozen=True)
class Example:
    """``supervised[i]`` says whether ``input_ids[i]`` is learned: it counts in the loss as a target."""

    input_ids: list[int]
    supervised: list[bool]


@dataclass(frozen=True)
class Encoded:
    """The rows of a file as examples; ``kept`` are their places (from 0), ``left_out`` the other rows."""

    examples: list[Example]
    kept: list[int]
    left_out: list[Problem]


def encode(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Messages,
    *,
    tools: Tools = None,
    max_length: int | None = None,
    truncate: bool = False,
) -> Example:
    """Token ids and supervision of one conversation; a message of weight 0 is context only.

    ``truncate`` lets the oldest turns of a conversation over ``max_length`` tokens go, never the system
    message or the last turn.

    Raises:
        UserError: it is too long, nothing in it is learned, its content holds control tokens, or the template
            renders it so that no mask can be trusted.
    """
    return _Encoder(tokenizer, max_length, truncate).encode(messages, tools)


def encode_rows(
    tokenizer: "PreTrainedTokenizerBase",
    rows: Iterable[ChatRow],
    *,
    source: str,
    max_length: int | None = None,
    truncate: bool = False,
    leave_out: bool = False,
) -> Encoded:
    """``encode`` for each row of the file ``source``; ``leave_out`` goes on without unusable ones.

    Raises:
        DatasetError: the rows that cannot be used, by line and reason; not with ``leave_out``.
    """
    encoder = _Encoder(tokenizer, max_length, truncate)
    encoded = Encoded([], [], [])
    for place, row in enumerate(rows):
        try:
            encoded.examples.append(encoder.encode(row.messages, row.tools))
            encoded.kept.append(place)
        except UserError as error:
            encoded.left_out.append(Problem(row.line, str(error), row.source_id))
    if encoded.left_out and not leave_out:
        raise DatasetError(source, encoded.left_out)
    return encoded


class _Encoder:
    def __init__(self, tokenizer: "PreTrainedTokenizerBase", max_length: int | None, truncate: bool) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.truncate = truncate
        self.control = ControlTokens.of(tokenizer)

    def encode(self, messages: Messages, tools: Tools) -> Example:
        self._refuse_control_tokens(messages)
        messages, ids = self._fit(messages, tools)
        require_one_bos(self.tokenizer, ids)
        supervised = [False] * len(ids)
        for start, stop in self._answers(messages, tools, ids):
            supervised[start:stop] = [True] * (stop - start)
        if not any(supervised):
            raise UserError("has no answer of weight 1 to learn")
        return Example(ids, supervised)

    def _refuse_control_tokens(self, messages: Messages) -> None:
        for index, message in enumerate(messages):
            for token in self.control.written:
                if token in (message.get("content") or ""):
                    raise UserError(f"messages[{index}] holds the control token {token}: remove it")

    def _fit(self, messages: Messages, tools: Tools) -> tuple[Messages, list[int]]:
        ids = self._ids(messages, tools)
        while self.max_length is not None and len(ids) > self.max_length:
            shorter = _without_oldest_turn(messages)
            if not self.truncate or shorter is None:
                raise UserError(_why_too_long(len(ids), self.max_length, last_turn=self.truncate))
            messages = shorter
            ids = self._ids(messages, tools)
        return messages, ids

    def _ids(self, messages: Messages, tools: Tools, *, prompt: bool = False) -> list[int]:
        text = render(self.tokenizer, messages, tools=tools, add_generation_prompt=prompt)
        return tokenize(self.tokenizer, text)

    def _answers(self, messages: Messages, tools: Tools, ids: list[int]) -> list[tuple[int, int]]:
        """Half-open spans of ``ids`` to learn, one for each assistant message of weight 1."""
        learned = [index for index, message in enumerate(messages) if _is_learned(message)]
        if not has_generation_markers(self.tokenizer, tools):
            return [self._span_by_prefix(messages, tools, ids, index) for index in learned]
        answers = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
        spans = self._marked_spans(messages, tools, ids)
        if len(spans) != len(answers):
            raise UserError(
                f"the chat template marks {len(spans)} parts with generation for {len(answers)} assistant "
                "messages: mend the template"
            )
        return [span for index, span in zip(answers, spans, strict=True) if index in learned]

    def _marked_spans(self, messages: Messages, tools: Tools, ids: list[int]) -> list[tuple[int, int]]:
        encoded = apply(
            self.tokenizer,
            messages,
            tools,
            tokenize=True,
            return_dict=True,
            return_assistant_tokens_mask=True,
        )
        position = 0
        spans = []
        for marked, run in groupby(encoded["assistant_masks"]):
            start, position = position, position + len(list(run))
            if marked:
                spans.append((start, self._end_of_turn(ids, start, position, or_next=True)))
        return spans

    def _span_by_prefix(
        self, messages: Messages, tools: Tools, ids: list[int], index: int
    ) -> tuple[int, int]:
        prompt = self._ids(messages[:index], tools, prompt=True)
        answered = self._ids(messages[: index + 1], tools) if index + 1 < len(messages) else ids
        if ids[: len(prompt)] != prompt:
            raise UserError(f"messages[{index}]{self._why_no_prefix(messages, tools, index)}")
        stop = self._end_of_turn(answered, len(prompt), len(answered))
        if ids[:stop] != answered[:stop]:
            raise UserError(f"messages[{index}]{_CHANGES_LATER}")
        return len(prompt), stop

    def _why_no_prefix(self, messages: Messages, tools: Tools, index: int) -> str:
        prompt = render(self.tokenizer, messages[:index], tools=tools, add_generation_prompt=True)
        if not render(self.tokenizer, messages, tools=tools).startswith(prompt):
            return _CHANGES_LATER
        if (messages[index].get("content") or "")[:1].isspace():
            return " begins with white space, which melts into the prompt: remove it"
        return (
            ": the tokenizer joins the end of the prompt with the answer's beginning, so the model would "
            "learn from a prompt that it is never given: this chat template does not suit this tokenizer"
        )

    def _end_of_turn(self, ids: list[int], start: int, stop: int, *, or_next: bool = False) -> int:
        """Where the answer in ``ids[start:stop]`` ends: after the last special token, with only space behind.

        ``or_next`` allows the special token to be the one that follows the span.
        """
        last = max((i for i in range(start, stop) if ids[i] in self.control.special), default=None)
        if last is not None and not self.tokenizer.decode(ids[last + 1 : stop]).strip():
            return last + 1
        if or_next and stop < len(ids) and ids[stop] in self.control.special:
            return stop + 1
        raise UserError("the chat template ends an answer with no special token: the model could not stop")


def _is_learned(message: Mapping[str, Any]) -> bool:
    return message["role"] == "assistant" and message.get("weight") != 0


def _without_oldest_turn(messages: Messages) -> Messages | None:
    """Without the first user message and all up to the next; None when there is only one turn."""
    turns = [index for index, message in enumerate(messages) if message["role"] == "user"]
    if len(turns) < 2:
        return None
    return [*messages[: turns[0]], *messages[turns[1] :]]


def _why_too_long(tokens: int, max_length: int, *, last_turn: bool) -> str:
    if last_turn:
        return f"has {tokens} tokens in its last turn, over max_length {max_length}: shorten it or raise that"
    return (
        f"has {tokens} tokens, over max_length {max_length}: shorten it, raise max_length, "
        "or set truncate to let its oldest turns go"
    )
