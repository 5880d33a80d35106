"""Which tokens steer a conversation: the end of a turn, padding, and those that content must not hold."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.chat.template import probe
from common.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class ControlTokens:
    """``special``: every special id. ``written``: texts of those that the chat template writes."""

    special: frozenset[int]
    written: tuple[str, ...]

    @classmethod
    def of(cls, tokenizer: "PreTrainedTokenizerBase") -> "ControlTokens":
        """Read them off the tokenizer, its template and a rendered conversation."""
        texts = _special(tokenizer)
        source = str(tokenizer.chat_template)
        written = {texts[index] for index in probe(tokenizer) if index in texts}
        written |= {text for text in texts.values() if text in source}
        written |= {token for token in (tokenizer.bos_token, tokenizer.eos_token) if token}
        return cls(frozenset(texts), tuple(sorted(written)))


def end_of_turn_id(tokenizer: "PreTrainedTokenizerBase") -> int:
    """The token that ends an assistant's turn in this template, at which the model must learn to stop.

    Raises:
        UserError: the template ends a turn with no special token.
    """
    special = _special(tokenizer)
    for index in reversed(probe(tokenizer)):
        if index in special:
            return index
    raise UserError(
        "the chat template ends an answer with no special token: the model could not learn to stop"
    )


def pad_id(tokenizer: "PreTrainedTokenizerBase") -> int:
    """A token to fill batches with that is never the end of a turn or of the text.

    Many tokenizers name the end of turn as their padding, and a batch that masks padding by its id would
    then teach the model never to stop. Mask by length; this id is a second guard.
    """
    ends = {end_of_turn_id(tokenizer), tokenizer.eos_token_id}
    special = _special(tokenizer)
    named_pad = [index for index, text in special.items() if "pad" in text.lower()]
    candidates: list[int | None] = [
        tokenizer.pad_token_id,
        *named_pad,
        tokenizer.unk_token_id,
        *sorted(special),
        0,
        1,
        2,
    ]
    return next(index for index in candidates if index is not None and index not in ends)


def _special(tokenizer: "PreTrainedTokenizerBase") -> dict[int, str]:
    added = {index: str(token) for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    return added | dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))
