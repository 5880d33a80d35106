"""What a turn of the loop promises, and that a promise which was not kept is named."""

from typing import Any

import pytest
from rich.console import Console

from common.errors import UserError
from services.local import acts
from services.local.acts import judge
from services.local.lessons import Lessons
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
    "poisoned_state": "refused",
    "poisoned_gate": "worse",
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
        (
            {"poison_refused_by": None, "poisoned_state": "ungated", "poisoned_gate": "insufficient data"},
            r"the poisoned version was refused .+ \(it is ungated: insufficient data\)",
        ),
        ({"served_after_poison_as_before": False}, "what was served stayed"),
        ({"erased_versions": ["kiln-helper@2"]}, "what learned from the erased is listed"),
        ({"retrained_serves": False}, "the version without them serves"),
        ({"erased_champion_retired": False}, "the one with them is retired"),
    ],
)
def test_a_promise_that_was_not_kept_is_named(figures: dict[str, Any], promise: str) -> None:
    with pytest.raises(UserError, match=f"this did not hold: {promise}$"):
        judge(KEPT | figures)


class Poisoned:
    """A loop in which ``version`` comes of the poison, and no trial promotes it."""

    def __init__(self, version: dict[str, Any]) -> None:
        self.version, self.bot, self.figures = version, {"champion": 1, "candidate": None}, {"errors": []}
        self.api = self.malicious = None
        self.lessons = Lessons([], [], [], ())
        self.console = Console(quiet=True)
        self.tried: list[dict[str, Any]] = []

    def retrain(self) -> dict[str, Any]:
        return self.version

    def try_out(self, version: dict[str, Any]) -> bool:
        self.tried.append(version)
        return False


@pytest.mark.parametrize(
    ("state", "by"), [("refused", "gate"), ("passed", "canary"), ("ungated", None), ("retired", None)]
)
def test_only_a_verdict_or_a_trial_refuses_the_poison(
    monkeypatch: pytest.MonkeyPatch, state: str, by: str | None
) -> None:
    monkeypatch.setattr(acts.raters, "rate_all", lambda *_, **__: [])
    monkeypatch.setattr(acts.raters, "accept", lambda *_: None)
    loop: Any = Poisoned({"name": "kiln-helper@2", "number": 2, "state": state, "sentence": "so it is"})
    acts.poison(loop)
    assert (loop.figures["poison_refused_by"], bool(loop.tried)) == (by, state == "passed")


def test_ten_minutes_from_the_first_rating_to_the_promotion_are_not_passed_in_silence() -> None:
    judge_time(600)
    with pytest.raises(UserError, match="601 s lay between the first rating and the promotion"):
        judge_time(601)
