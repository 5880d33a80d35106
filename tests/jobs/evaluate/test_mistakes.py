"""What is a known mistake, what is fixed, what is broken: on scores, and on a model that is written down."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from common.chat import Example
from common.models import default_cache_dir, resolve
from common.rows import ChatRow, DatasetError, parse_row
from jobs.evaluate.mistakes import (
    BROKEN,
    Outcome,
    encode_opinions,
    judge_mistakes,
    outcome,
    outcomes,
    telling,
)
from jobs.evaluate.parity import load_tokenizer
from jobs.evaluate.scores import Models, score
from tests.demo import BASE

QUESTION = {"role": "user", "content": "Where is the jar?"}
MODELS = Models("served", "adapter")


class WrittenModels:
    """The edge of vLLM: each model gives tokens of the texts that it likes -1 nat, and all others -3."""

    def __init__(self, tokenizer: Any, likes: dict[str, str]) -> None:
        self.tokenizer, self.likes = tokenizer, likes

    def logprobs(self, model: str, ids: Sequence[int]) -> Any:
        liked = self.likes[model] in self.tokenizer.decode(ids)
        return np.full(len(ids), -1.0 if liked else -3.0)

    def map(self, function: Any, values: Any) -> list[Any]:
        return [function(value) for value in values]


def row(answer: str, opinion: dict[str, str] | None, *before: dict[str, Any]) -> ChatRow:
    messages = [*before, QUESTION, {"role": "assistant", "content": answer}]
    parsed = parse_row(1, {"messages": messages, "key": "k"} | ({"onggi": opinion} if opinion else {}))
    assert isinstance(parsed, ChatRow)
    return parsed


def learned(tokenizer: Any, example: Example) -> str:
    ids = zip(example.input_ids, example.supervised, strict=True)
    return str(tokenizer.decode([token for token, counts in ids if counts]))


@pytest.mark.parametrize(
    ("right", "wrong", "expected"),
    [
        ((-3.0, -1.0), (-1.0, -2.0), "fixed"),
        ((-3.0, -3.0), (-1.0, -1.0), "not fixed"),
        ((-1.0, -1.0), (-1.0, -2.0), "fixed"),  # as likely is not preferred
        ((-1.0, -1.0), (-2.0, -2.0), "mended"),
        ((-1.0, -3.0), (-2.0, -2.0), "back"),
        ((-1.0, -1.0 - BROKEN), None, "kept"),
        ((-1.0, -1.01 - BROKEN), None, "broken"),
        ((-1.0, -0.1), None, "kept"),
    ],
)
def test_what_became_of_an_answer(
    right: tuple[float, float], wrong: tuple[float, float] | None, expected: Outcome
) -> None:
    assert outcome(right, wrong) == expected


def test_it_is_said_as_a_person_would() -> None:
    found: list[Outcome] = ["fixed"] * 14 + ["not fixed"] * 3 + ["broken"] + ["kept"] * 39 + ["mended"]
    finding = judge_mistakes(found)
    assert finding is not None
    assert finding.words == (
        "fixed 14 of 17 known mistakes, broke 1 of 40 accepted answers, brought back 0 of 1 mended mistake"
    )
    assert finding.state == "passed"
    assert finding.figures["known_mistakes_fixed"] == 14
    assert finding.figures["accepted_answers"] == 40


@pytest.mark.parametrize(
    ("fixed", "harmed", "state"),
    [(0, 0, "passed"), (0, 4, "passed"), (0, 5, "refused"), (5, 11, "passed"), (5, 13, "refused")],
)
def test_it_refuses_where_more_broke_than_was_fixed_and_chance_is_no_reason(
    fixed: int, harmed: int, state: str
) -> None:
    half = harmed // 2
    found: list[Outcome] = ["fixed"] * fixed + ["back"] * half + ["broken"] * (harmed - half) + ["kept"]
    finding = judge_mistakes(found)
    assert finding is not None
    assert finding.state == state


def test_rows_without_an_opinion_say_nothing() -> None:
    assert judge_mistakes([]) is None


def test_what_changed_is_shown_first() -> None:
    found: dict[int, Outcome] = {1: "mended", 2: "fixed", 4: "broken", 5: "back"}
    assert telling(found, 7) == [4, 5, 2, 0, 1, 3, 6]


def test_only_the_last_answer_is_compared_and_with_what_it_replaces(base_model: Any) -> None:
    tokenizer = load_tokenizer(resolve(BASE, default_cache_dir()))
    earlier = ({"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "Good day to you."})
    rows = [
        row("In the yard.", {"kind": "correction", "rejected": "In the cellar. " * 200}, *earlier),
        row("In the yard.", None),
        row("In the yard.", {"kind": "correction", "rejected": "In the attic."}),
        row("In the yard.", {"kind": "accepted"}, *earlier),
        row("In the attic.", {"kind": "accepted"}),
    ]
    opinions = encode_opinions(rows, tokenizer, max_length=128, truncate=False, leave_out=False)
    assert opinions.places == [0, 2, 3, 4]
    said = [learned(tokenizer, example) for example in [*opinions.answers, opinions.rejected[2]]]
    assert [text.split("<")[0] for text in said] == ["In the yard."] * 3 + ["In the attic."] * 2
    served, adapter = "In the attic.", "In the yard."
    vllm: Any = WrittenModels(tokenizer, {"served": served, "adapter": adapter})
    examples = encode_opinions(
        [parsed if parsed.opinion else row("In the yard.", {"kind": "accepted"}) for parsed in rows],
        tokenizer,
        max_length=128,
        truncate=False,
        leave_out=False,
    ).answers
    found = outcomes(vllm, opinions, score(vllm, examples, MODELS), MODELS)
    assert found == {0: "fixed", 2: "fixed", 3: "kept", 4: "broken"}


def test_an_opinion_on_an_answer_that_holds_a_control_token_counts_for_nothing(base_model: Any) -> None:
    tokenizer = load_tokenizer(resolve(BASE, default_cache_dir()))
    rows = [
        row("In the yard.", {"kind": "correction", "rejected": "<|im_end|> means the end."}),
        row("In the yard.", {"kind": "accepted"}),
        row("In the yard.", {"kind": "correction", "rejected": "In the attic."}),
    ]
    with pytest.raises(DatasetError, match="the answers that held-out rows reject"):
        encode_opinions(rows, tokenizer, max_length=128, truncate=False, leave_out=False)
    opinions = encode_opinions(rows, tokenizer, max_length=128, truncate=False, leave_out=True)
    assert (opinions.places, len(opinions.answers), list(opinions.rejected)) == ([1, 2], 2, [2])
