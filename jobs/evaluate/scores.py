"""Log-probabilities of rows: how surprised two models are by the answers people wrote, token by token."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from common import logging
from common.chat import Example, encode_rows
from common.rows import ChatRow, read_rows
from jobs.evaluate.vllm_client import Floats, Vllm

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Rows:
    """The rows of one file, read and encoded."""

    rows: list[ChatRow]
    examples: list[Example]

    def __add__(self, other: "Rows") -> "Rows":
        return Rows(self.rows + other.rows, self.examples + other.examples)

    @property
    def keys(self) -> list[str]:
        """Each row's conversation."""
        return [row.key for row in self.rows]

    def spread(self, count: int) -> "Rows":
        """``count`` of the rows (or all, where there are fewer), evenly spread over the file."""
        chosen = np.unique(np.linspace(0, len(self.rows) - 1, min(count, len(self.rows))).round().astype(int))
        return Rows([self.rows[i] for i in chosen], [self.examples[i] for i in chosen])


class Models(NamedTuple):
    """The names by which vLLM serves the two models that are compared: the adapter and what it is held to."""

    reference: str
    adapter: str


@dataclass(frozen=True)
class Losses:
    """Summed loss in nats of each row (n,) by both models, over ``tokens`` (n,) supervised tokens."""

    keys: list[str]
    tokens: Floats
    reference: Floats
    adapter: Floats

    def mean(self, which: Floats) -> float:
        """Nats per supervised token of ``self.reference`` or ``self.adapter``."""
        return float(which.sum() / self.tokens.sum())


@dataclass(frozen=True)
class Scored:
    """Log-probabilities of every token of each example, by reference and by adapter, in nats."""

    examples: Sequence[Example]
    reference: list[Floats]
    adapter: list[Floats]

    def losses(self, keys: list[str]) -> Losses:
        """Summed over each example's supervised tokens; ``keys`` are the rows' conversations."""
        masks = [np.array(example.supervised) for example in self.examples]
        sums = [
            np.array([-found[mask].sum() for found, mask in zip(scored, masks, strict=True)])
            for scored in (self.reference, self.adapter)
        ]
        return Losses(keys, np.array([float(mask.sum()) for mask in masks]), *sums)


def load_rows(
    path: Path, tokenizer: "PreTrainedTokenizerBase", *, max_length: int, truncate: bool, leave_out: bool
) -> Rows:
    """Read and encode the chat rows at ``path``; with ``leave_out`` those that can be, if any.

    Raises:
        UserError: rows that cannot be used, by line and reason; not with ``leave_out``.
    """
    rows = read_rows(path).chat_rows()
    encoded = encode_rows(
        tokenizer, rows, source=str(path), max_length=max_length, truncate=truncate, leave_out=leave_out
    )
    for problem in encoded.left_out:
        logging.get("system").warning("row_left_out", reason=problem.sentence)
    return Rows([rows[place] for place in encoded.kept], encoded.examples)


def supervised_logprobs(vllm: Vllm, model: str, examples: Sequence[Example]) -> list[Floats]:
    """For each example, ``model``'s log-probabilities at its supervised tokens, in nats."""

    def score(example: Example) -> Floats:
        found: Floats = vllm.logprobs(model, example.input_ids)[np.array(example.supervised)]
        return found

    return vllm.map(score, examples)


def score(vllm: Vllm, examples: Sequence[Example], models: Models) -> Scored:
    """Log-probabilities of ``examples`` by both ``models``, in one pass that keeps vLLM busy."""
    pairs = [(model, example.input_ids) for example in examples for model in models]
    found = vllm.map(lambda pair: vllm.logprobs(*pair), pairs)
    return Scored(examples, found[::2], found[1::2])
