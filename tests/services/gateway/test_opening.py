"""When what a bot's row says takes effect."""

from dataclasses import replace
from typing import Any

import pytest

from services.database.tables import now
from services.gateway.opening import ServedBot, open_up
from services.gateway.warmup import State

ROW = ServedBot("b", "base", champion=1, candidate=None, share=0.0, created_at=now())
KNOWN = {1, 2, 3}


def opened(row: ServedBot, last: ServedBot | None, **states: State) -> tuple[str, int | None, int | None]:
    """Base, champion and candidate in effect, where versions ``v1``, ``v2`` ... are in these states."""
    found = open_up(row, last, lambda number: states.get(f"v{number}", "ready"), KNOWN)
    return found.base, found.champion, found.candidate


def row(**values: Any) -> ServedBot:
    return replace(ROW, **values)


@pytest.mark.parametrize("state", ["loading", "failed", "unknown"])
def test_a_champion_that_cannot_answer_yet_leaves_the_one_before_it(state: State) -> None:
    assert opened(row(champion=2, previous=1), ROW, v2=state) == ("base", 1, None)
    assert opened(row(champion=2, base="other"), row(champion=None), v2=state) == ("base", None, None)


def test_a_champion_that_can_answer_is_served() -> None:
    assert opened(row(champion=2, previous=1), ROW) == ("base", 2, None)
    assert opened(row(champion=None), ROW) == ("base", None, None)


def test_a_gateway_that_starts_serves_the_champion_unless_it_failed_and_there_was_one_before() -> None:
    assert opened(row(champion=2, previous=1), None, v2="loading") == ("base", 2, None)
    assert opened(row(champion=2, previous=1), None, v2="failed") == ("base", 1, None)
    assert opened(row(champion=2), None, v2="failed") == ("base", 2, None)


def test_a_champion_that_was_served_goes_on_while_nobody_can_say() -> None:
    for state in ("unknown", "loading"):
        assert opened(row(champion=2, previous=1), row(champion=2), v2=state) == ("base", 2, None)


def test_a_version_that_was_retired_is_not_kept() -> None:
    assert opened(row(champion=2), row(champion=7), v2="loading") == ("base", 2, None)


@pytest.mark.parametrize(
    ("state", "before", "given"),
    [
        ("ready", None, 2),
        ("loading", None, None),
        ("failed", None, None),
        ("unknown", None, None),
        ("loading", 2, 2),
        ("unknown", 2, 2),
        ("failed", 2, None),
        ("loading", 3, None),
    ],
)
def test_a_candidate_gets_its_share_once_it_is_ready_and_until_it_fails(
    state: State, before: int | None, given: int | None
) -> None:
    asked = row(candidate=2, share=0.5)
    assert opened(asked, row(candidate=before, share=0.5), v2=state) == ("base", 1, given)
