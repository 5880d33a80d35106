"""What the sample data set promises: valid rows, nothing held out that was trained on, patterns that fit."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from common.finetune_config import FinetuneConfig
from common.job_config import load_yaml
from common.rows import held_out, read_rows

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "jobs" / "samples"
TOO_ALIKE = 0.75
"""Jaccard similarity of two questions' words from which one counts as a copy of the other."""

Pair = tuple[str, str]


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (SAMPLES / name).read_text(encoding="utf-8").splitlines()]


def pairs(name: str) -> list[Pair]:
    """Every user turn with its answer."""
    contents = [[message["content"] for message in row["messages"]] for row in lines(name)]
    return [pair for turns in contents for pair in zip(turns[::2], turns[1::2], strict=True)]


def words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"[\w']+", text.lower()))


def alike(one: str, other: str) -> float:
    first, second = set(words(one)), set(words(other))
    return len(first & second) / len(first | second)


@pytest.mark.parametrize("name", ["train.jsonl", "heldout.jsonl", "regression.jsonl"])
def test_chat_files_pass_the_validation_of_uploads_and_have_unique_keys(name: str) -> None:
    dataset = read_rows(SAMPLES / name)
    keys = Counter(row["key"] for row in lines(name))

    assert dataset.kind == "chat"
    assert max(keys.values()) == 1


def test_keys_hash_to_the_side_their_file_is_on() -> None:
    assert not any(held_out(row["key"]) for row in lines("train.jsonl"))
    assert all(held_out(row["key"]) for row in lines("heldout.jsonl"))


def test_there_is_enough_to_judge_by() -> None:
    assert len(lines("questions.jsonl")) >= 25
    assert len(lines("unrelated.jsonl")) >= 20
    assert len(lines("regression.jsonl")) == 200
    assert min(Counter(row["fact"] for row in lines("questions.jsonl")).values()) >= 3


@pytest.mark.parametrize("name", ["heldout.jsonl", "regression.jsonl"])
def test_no_judging_question_is_a_trained_one_in_other_words_of_the_same_kind(name: str) -> None:
    trained = [question for question, _ in pairs("train.jsonl")]
    copies = [
        (asked, question)
        for asked, _ in pairs(name)
        for question in trained
        if words(asked) == words(question) or alike(asked, question) >= TOO_ALIKE
    ]

    assert copies == []


def test_no_unrelated_prompt_is_a_trained_question() -> None:
    trained = [question for question, _ in pairs("train.jsonl")]

    assert [
        (row["question"], question)
        for row in lines("unrelated.jsonl")
        for question in trained
        if alike(row["question"], question) >= TOO_ALIKE
    ] == []


def test_accepted_patterns_fit_their_held_out_answer_and_no_other_facts() -> None:
    answers = dict(pairs("heldout.jsonl"))
    facts = {row["fact"]: answers[row["question"]] for row in lines("questions.jsonl")}

    assert [row["question"] for row in lines("questions.jsonl")] == list(answers)
    for row in lines("questions.jsonl"):
        fitting = {
            fact
            for fact, answer in facts.items()
            if all(re.search(pattern, answer, re.IGNORECASE) for pattern in row["accept"])
        }
        assert fitting == {row["fact"]}


def test_forbidden_words_catch_every_fact_and_no_general_answer() -> None:
    forbidden = {word for row in lines("unrelated.jsonl") for word in row["forbid"]}
    general = [answer for _, answer in pairs("regression.jsonl")]
    prompts = [row["question"] for row in lines("unrelated.jsonl")]

    for _, answer in pairs("heldout.jsonl"):
        assert any(word in answer.lower() for word in forbidden), answer
    for text in general + prompts:
        assert not any(word in text.lower() for word in forbidden), text


def test_the_demo_recipe_trains_on_these_files() -> None:
    config = FinetuneConfig(**load_yaml(FinetuneConfig, ROOT / "jobs" / "recipes" / "demo.yaml"))

    assert ROOT / config.data == SAMPLES / "train.jsonl"
    assert config.validation is not None
    assert ROOT / config.validation == SAMPLES / "heldout.jsonl"
