"""Known mistakes and accepted answers among the held-out rows: what a version fixes, and what it breaks.

An answer's score by a model is its mean log-probability a token, its end of turn included, given the
conversation before it. A model prefers a correction when that scores higher than the answer it replaces.

- A known mistake is a correction that what is served does not prefer; it is fixed when the adapter does.
- A mended one is a correction that what is served prefers; it is back when the adapter does not.
- An accepted answer is broken when the adapter scores it lower than what is served does by more than
  ``BROKEN``: a drop that sampling would show, where rounding and a shift of style stay below it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import comb
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from common.chat import Example, encode_rows
from common.rows import ChatRow
from jobs.evaluate.gate import CONFIDENCE, Finding, count
from jobs.evaluate.scores import Models, Scored, score
from jobs.evaluate.vllm_client import Floats, Vllm

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BROKEN = 0.5
"""Nats a token: each token of the answer is under 61 % as likely as before."""

Outcome = Literal["fixed", "not fixed", "mended", "back", "kept", "broken"]
"""Of a held-out row that a person had an opinion of."""


@dataclass(frozen=True)
class Opinions:
    """The held-out rows with an opinion: their places in the file, and their answers encoded alone.

    ``answers`` are the rows' own last answers (n,); ``rejected`` those that the corrections replace, each
    under the place of its row.
    """

    places: list[int]
    answers: list[Example]
    rejected: dict[int, Example]


def encode_opinions(
    rows: Sequence[ChatRow],
    tokenizer: "PreTrainedTokenizerBase",
    *,
    max_length: int,
    truncate: bool,
    leave_out: bool,
) -> Opinions:
    """Encode what is compared as the rows themselves; a rejected answer was never learned, and may be longer.

    With ``leave_out`` an opinion counts for nothing whose rejected answer cannot be encoded.

    Raises:
        UserError: rows that cannot be used, by line and reason.
    """
    corrected = [place for place, row in enumerate(rows) if _rejected(row)]
    instead = [_instead(rows[place]) for place in corrected]
    source = "the answers that held-out rows reject"
    wrong = encode_rows(tokenizer, instead, source=source, leave_out=leave_out)
    rejected = dict(zip([corrected[kept] for kept in wrong.kept], wrong.examples, strict=True))
    places = [
        place for place, row in enumerate(rows) if row.opinion and (place in rejected or not _rejected(row))
    ]
    alone = [_only_last(rows[place]) for place in places]
    answers = encode_rows(tokenizer, alone, source="held-out rows", max_length=max_length, truncate=truncate)
    return Opinions(places, answers.examples, rejected)


def outcomes(vllm: Vllm, opinions: Opinions, held_out: Scored, models: Models) -> dict[int, Outcome]:
    """What became of each row with an opinion, by its place; its own answer is scored in ``held_out``."""
    rejected = score(vllm, list(opinions.rejected.values()), models)
    wrong = dict(zip(opinions.rejected, _means(rejected, rejected.examples), strict=True))
    whole = Scored(
        opinions.answers,
        [held_out.reference[place] for place in opinions.places],
        [held_out.adapter[place] for place in opinions.places],
    )
    right = dict(zip(opinions.places, _means(whole, opinions.answers), strict=True))
    return {place: outcome(right[place], wrong.get(place)) for place in opinions.places}


def outcome(right: tuple[float, float], wrong: tuple[float, float] | None) -> Outcome:
    """By the scores (what is served, adapter) of a row's answer and of the one it replaces, if it does."""
    if wrong is None:
        return "broken" if right[1] < right[0] - BROKEN else "kept"
    served, adapter = right[0] > wrong[0], right[1] > wrong[1]
    if served:
        return "mended" if adapter else "back"
    return "fixed" if adapter else "not fixed"


def judge_mistakes(found: Sequence[Outcome]) -> Finding | None:
    """In words; refused where what it broke surely outnumbers what it fixed; None without any opinion.

    Sure is the exact one-sided sign test at 95 % (W. Conover, Practical Nonparametric Statistics, section
    3.4) over what changed: a version that changes nothing for the better breaks as often as it fixes.
    """
    if not found:
        return None
    tally = Counter(found)
    fixed, harmed = tally["fixed"], tally["broken"] + tally["back"]
    figures = {
        "known_mistakes": tally["fixed"] + tally["not fixed"],
        "known_mistakes_fixed": tally["fixed"],
        "mended_mistakes": tally["mended"] + tally["back"],
        "mended_mistakes_back": tally["back"],
        "accepted_answers": tally["kept"] + tally["broken"],
        "accepted_answers_broken": tally["broken"],
    }
    refused = _at_least(harmed, fixed + harmed) <= 1 - CONFIDENCE
    return Finding("refused" if refused else "passed", _words(tally), dict(figures))


def telling(found: Mapping[int, Outcome], rows: int) -> list[int]:
    """The places of all ``rows``, first those where something changed, for worse and for better."""
    order: tuple[Outcome | None, ...] = ("broken", "back", "fixed", "not fixed")
    rank = {outcome: place for place, outcome in enumerate(order)}
    return sorted(range(rows), key=lambda place: rank.get(found.get(place), len(order)))


def _words(tally: Counter[Outcome]) -> str:
    mistakes, accepted = tally["fixed"] + tally["not fixed"], tally["kept"] + tally["broken"]
    mended = tally["mended"] + tally["back"]
    parts = []
    if mistakes:
        parts.append(f"fixed {tally['fixed']} of {count(mistakes, 'known mistake')}")
    if accepted:
        parts.append(f"broke {tally['broken']} of {count(accepted, 'accepted answer')}")
    if mended:
        parts.append(f"brought back {tally['back']} of {count(mended, 'mended mistake')}")
    return ", ".join(parts)


def _at_least(heads: int, tosses: int) -> float:
    """The chance of so many heads or more with a fair coin."""
    return float(sum(comb(tosses, number) for number in range(heads, tosses + 1)) / 2**tosses)


def _means(scored: Scored, answers: Sequence[Example]) -> list[tuple[float, float]]:
    """Mean log-probability of each answer's tokens by both models."""
    masks = [np.array(example.supervised) for example in answers]

    def mean(found: Floats, mask: "np.ndarray[Any, Any]") -> float:
        return float(found[mask].mean())

    triples = zip(scored.reference, scored.adapter, masks, strict=True)
    return [(mean(reference, mask), mean(adapter, mask)) for reference, adapter, mask in triples]


def _rejected(row: ChatRow) -> str | None:
    return row.opinion.rejected if row.opinion else None


def _only_last(row: ChatRow) -> ChatRow:
    """The same tokens, of which only those of the last answer count."""
    before = [
        message | {"weight": 0} if message["role"] == "assistant" else message for message in row.messages
    ]
    last = {key: value for key, value in row.messages[-1].items() if key != "weight"}
    return replace(row, messages=[*before[:-1], last])


def _instead(row: ChatRow) -> ChatRow:
    """The row with the answer that was rejected in the place of its last."""
    alone = _only_last(row)
    return replace(alone, messages=[*alone.messages[:-1], {"role": "assistant", "content": _rejected(row)}])
