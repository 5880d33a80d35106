import numpy as np
import pytest

from jobs.promote.sequential import CHANCES, WEIGHTS, first_crossing, log_evidence


def test_a_bet_on_a_fair_coin_is_worth_one_on_average_after_every_toss() -> None:
    assert sum(WEIGHTS) == pytest.approx(1)
    assert min(CHANCES) > 0.5
    for wins, losses in ((0, 0), (3, 1), (1, 3), (20, 17)):
        after = [log_evidence(wins + 1, losses), log_evidence(wins, losses + 1)]
        assert np.exp(after).mean() == pytest.approx(float(np.exp(log_evidence(wins, losses))))


def test_a_coin_that_falls_wins_less_often_is_worth_less() -> None:
    worth = np.exp([log_evidence(6, 2), log_evidence(5, 3)])
    assert 0.4 * worth[0] + 0.6 * worth[1] < np.exp(log_evidence(5, 2))


@pytest.mark.parametrize(
    ("coins", "threshold", "toss"),
    [
        ([True] * 12, 20, 7),  # eight won and none lost promote
        ([True] * 12, 5, 4),  # five end a trial
        ([True] * 7, 20, None),
        ([], 20, None),
        ([True] * 8 + [False] * 50, 20, 7),  # what comes later takes nothing back
    ],
)
def test_the_first_toss_that_is_enough_decides(coins: list[bool], threshold: float, toss: int | None) -> None:
    assert first_crossing(coins, threshold) == toss


def test_nine_to_three_is_not_enough_and_seventeen_of_twenty_blind_choices_are() -> None:
    assert float(log_evidence(9, 3)) < np.log(20) <= float(log_evidence(17, 3))
