"""Who is learned from and who is held out, over the life of a bot: whoever was on a side stays there."""

import random
from collections.abc import Iterable

import pytest

from jobs.curate.duplicates import Questions, compare
from jobs.curate.sides import Side, choose

WORDS = (
    *("kiln", "clay", "glaze", "wheel", "apron", "bowl", "class"),
    *("locker", "rent", "tea", "shelf", "potter", "bench", "slip"),
)


def question(topic: int, change: int) -> str:
    """One of a topic's questions; those that differ by 1 in ``change`` are near, those by 5 are not."""
    long = [f"{WORDS[topic % 14]}{WORDS[(topic * 3 + place) % 14]}" for place in range(10)]
    return " ".join([f"topic{topic}", *long, *(WORDS[: change + 1])])


def near(questions: Questions, key: str) -> set[str]:
    """Who else asked nearly the same as ``key``."""
    numbers = {other for number in questions.of[key] for other in questions.near[number]}
    return {asker for number in numbers for asker in questions.askers[number]} - {key}


def keep(recorded: dict[str, bool], sides: dict[str, Side]) -> None:
    """As control does: what a dataset has is recorded."""
    recorded |= {key: side for key, side in sides.items() if side is not None}


def shuffled(chance: random.Random, asked: dict[str, str]) -> Iterable[tuple[str, str]]:
    return chance.sample(sorted(asked.items()), len(asked))


@pytest.mark.parametrize("seed", range(40))
def test_nobody_changes_sides_whoever_comes_in_whatever_order_and_whoever_is_erased(seed: int) -> None:
    chance = random.Random(seed)
    asked: dict[str, str] = {}
    recorded: dict[str, bool] = {}
    for turn in range(8):
        for number in range(12):
            asked[f"{seed}-{turn}-{number}"] = question(chance.randrange(4), chance.randrange(14))
        for gone in chance.sample(sorted(asked), len(asked) // 4):
            del asked[gone]
        questions = compare(shuffled(chance, asked))
        sides = choose(questions, recorded)
        assert choose(compare(shuffled(chance, asked)), recorded) == sides, (
            "the order of words decides nothing"
        )
        for key, side in sides.items():
            assert side in (recorded.get(key, side), None), "a recorded side is kept"
            across = {sides[other] for other in near(questions, key)} - {None, side}
            assert side is None or not across, "nearly the same is on one side"
        keep(recorded, sides)
        assert choose(questions, recorded) == sides, "a retrain that was killed makes the same dataset again"


@pytest.mark.parametrize("size", [1, 5, 30])
def test_a_fifth_of_the_questions_is_held_out_however_many_asked_each(size: int) -> None:
    clusters = 1500
    asked = [
        (f"{cluster}/{one}", f"question {cluster}") for cluster in range(clusters) for one in range(size)
    ]
    sides = choose(compare(asked), {})
    held = [cluster for cluster in range(clusters) if sides[f"{cluster}/0"]]
    assert all(
        sides[f"{cluster}/{one}"] == sides[f"{cluster}/0"]
        for cluster in range(clusters)
        for one in range(size)
    )
    assert 0.17 < len(held) / clusters < 0.23  # three standard deviations


def test_a_chain_of_questions_is_on_one_side_though_its_ends_are_not_alike() -> None:
    for start in range(30):
        asked = {f"{start}-{change}": question(start, change) for change in range(14)}
        questions = compare(asked.items())
        assert f"{start}-13" not in near(questions, f"{start}-0")
        assert len(set(choose(questions, {}).values())) == 1


def test_between_two_sides_only_those_who_are_near_to_both_are_on_neither() -> None:
    asked = {str(change): question(1, change) for change in range(14)}
    questions = compare(asked.items())
    sides = choose(questions, {"0": True, "13": False})
    neither = {key for key, side in sides.items() if side is None}
    assert neither, "sides that grow towards each other meet"
    for key in neither:
        assert {sides[other] for other in near(questions, key)} >= {True, False}
    assert {True, False} <= set(sides.values())


def test_a_test_that_what_is_learned_has_come_near_to_is_none_any_more_and_never_learned() -> None:
    questions = compare([("learned", "When do you open?"), ("held", "When do you open")])
    recorded = {"learned": False, "held": True}
    assert choose(questions, recorded) == {"learned": False, "held": None}
    assert choose(compare([("held", "When do you open")]), recorded) == {"held": True}
