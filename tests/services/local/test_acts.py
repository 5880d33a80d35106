"""What a turn of the loop promises, and that a promise which was not kept is named."""

from typing import Any

import pytest

from common.errors import UserError
from services.local.acts import judge
from services.local.loop import judge_time

KEPT: dict[str, Any] = {
    "version": "kiln-helper@1",
    "promoted": True,
    "held_out": 21,
    "right": 17,
    "right_base": 2,
    "unrelated": 30,
    "unharmed": 28,
    "errors": [],
    "poison_refused_by": "gate",
    "served_after_poison_as_before": True,
    "erased_versions": ["kiln-helper@1", "kiln-helper@2"],
    "retrained_serves": True,
    "erased_champion_retired": True,
}


def test_a_turn_that_kept_all_is_fine() -> None:
    judge(KEPT)


@pytest.mark.parametrize(
    ("figures", "promise"),
    [
        ({"promoted": False}, "the new version was promoted"),
        ({"right": 16}, "80% of the held-out questions are right"),
        ({"right_base": 3}, "the base did not know them"),
        ({"unharmed": 19}, "20 unrelated answers are unharmed"),
        ({"errors": ["rater 1: 503"]}, "no conversation saw an error"),
        ({"poison_refused_by": None}, "the poisoned version was refused"),
        ({"served_after_poison_as_before": False}, "what was served stayed"),
        ({"erased_versions": ["kiln-helper@2"]}, "what learned from the erased is listed"),
        ({"retrained_serves": False}, "the version without them serves"),
        ({"erased_champion_retired": False}, "the one with them is retired"),
    ],
)
def test_a_promise_that_was_not_kept_is_named(figures: dict[str, Any], promise: str) -> None:
    with pytest.raises(UserError, match=f"this did not hold: {promise}$"):
        judge(KEPT | figures)


def test_ten_minutes_from_the_first_rating_to_the_promotion_are_not_passed_in_silence() -> None:
    judge_time(600)
    with pytest.raises(UserError, match="601 s lay between the first rating and the promotion"):
        judge_time(601)
