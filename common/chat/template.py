"""Render the tokenizer's chat template as vLLM does, with any date in it pinned."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from common.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# The day that Llama 3's templates write when they are told none, so vLLM writes it too.
_DAY = date(2024, 7, 26)
_NOW = re.compile(r"""strftime_now\(\s*(['"])(?P<format>[^'"]*)\1\s*\)""")
_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
_PROBE = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


def render(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Mapping[str, Any]],
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    add_generation_prompt: bool = False,
) -> str:
    """The conversation as text.

    Raises:
        UserError: the tokenizer has no chat template, or its template refuses the messages.
    """
    text = apply(tokenizer, messages, tools, tokenize=False, add_generation_prompt=add_generation_prompt)
    return str(text)


def prompt_ids(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Mapping[str, Any]],
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> list[int]:
    """The token ids that the model answers: what vLLM's chat endpoint makes of the same messages."""
    ids = tokenize(tokenizer, render(tokenizer, messages, tools=tools, add_generation_prompt=True))
    require_one_bos(tokenizer, ids)
    return ids


def pinned_template(
    tokenizer: "PreTrainedTokenizerBase", tools: Sequence[Mapping[str, Any]] | None = None
) -> str:
    """The source of the template with today's date, where it asks for it, replaced by a fixed day.

    A model that is trained for weeks must not learn the day of its training. vLLM renders the same when it is
    started with ``--chat-template`` and this text; a template that asks for no date needs nothing.

    Raises:
        UserError: there is no template, or it asks for the date in a way that cannot be pinned.
    """
    if not tokenizer.chat_template:
        raise UserError(
            "the tokenizer has no chat template: use an instruct model, or add chat_template.jinja"
        )
    source = str(tokenizer.get_chat_template(None, tools))
    pinned = _NOW.sub(lambda call: json.dumps(_DAY.strftime(call["format"])), source)
    if "strftime_now(" in pinned:
        raise UserError(
            "the chat template asks for today's date with a computed format: write the date in it"
        )
    return pinned


def template_hash(tokenizer: "PreTrainedTokenizerBase") -> str:
    """``sha256:...`` over all that decides how a conversation is rendered."""
    parts = [tokenizer.chat_template, tokenizer.bos_token, tokenizer.eos_token, str(_DAY)]
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def tokenize(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """Token ids of rendered text; the template has written every special token already."""
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def has_generation_markers(
    tokenizer: "PreTrainedTokenizerBase", tools: Sequence[Mapping[str, Any]] | None
) -> bool:
    """Whether the template says itself what the assistant writes, by ``{% generation %}``."""
    return bool(_GENERATION.search(pinned_template(tokenizer, tools)))


def apply(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] | None,
    **options: Any,
) -> Any:
    """``apply_chat_template`` with vLLM's form of the messages and dates pinned; errors as sentences."""
    from jinja2 import TemplateError

    try:
        return tokenizer.apply_chat_template(
            [_plain(message) for message in messages],
            tools=list(tools) if tools else None,
            chat_template=pinned_template(tokenizer, tools),
            **options,
        )
    except (TemplateError, TypeError) as error:
        raise UserError(f"the chat template refuses these messages: {error}") from None


def probe(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """Token ids of the shortest whole conversation, whose end is the end of an assistant's turn."""
    return tokenize(tokenizer, render(tokenizer, _PROBE))


def require_one_bos(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int]) -> None:
    """Refuse a template that writes two beginnings of text, or none where the model was trained with one.

    Raises:
        UserError: the sentence says which.
    """
    bos = tokenizer.bos_token_id
    if bos is None:
        return
    if list(ids[:2]) == [bos, bos]:
        raise UserError(f"the chat template writes {tokenizer.bos_token} twice: remove one from it")
    if ids[0] != bos and tokenizer("a")["input_ids"][0] == bos:
        raise UserError(
            f"the chat template does not begin with {tokenizer.bos_token}, which this tokenizer puts before "
            "every text: begin the template with {{ bos_token }}"
        )


def _plain(message: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is ours (``weight``), and in the form that vLLM gives to templates."""
    plain = {key: value for key, value in message.items() if key != "weight" and value is not None}
    calls = plain.pop("tool_calls", None)
    if calls:
        plain["tool_calls"] = [_with_parsed_arguments(call) for call in calls]
    return plain | {"content": plain.get("content", "")}


def _with_parsed_arguments(call: Mapping[str, Any]) -> dict[str, Any]:
    function = dict(call["function"])
    if isinstance(function["arguments"], str):
        function["arguments"] = json.loads(function["arguments"] or "{}")
    return {**call, "function": function}
