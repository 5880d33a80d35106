"""How often the rule errs and how soon it decides, on people who do not exist: a cut, and the whole for soak.

    make soak ARGS=tests/jobs/promote        # resumable: what was simulated by this code is kept in the cache

The last of them writes the tables in docs/figures.md anew.
"""

import pytest

from tests.jobs.promote import tables
from tests.jobs.promote.simulation import World, simulate
from tests.jobs.promote.tables import FALSE_PROMOTION, HARM, POWER, Question, upper_bound


def test_a_version_that_is_no_better_is_rarely_promoted() -> None:
    world = World(0.7, people=20, drift=0.2)
    assert upper_bound(simulate(world, 3000, (150,), seed=1)[150].promoted, 3000) <= 0.055


def test_a_version_that_is_much_better_is_promoted_by_200_ratings_an_arm() -> None:
    world = World(0.7, effect=0.15, people=20, correlation=0.0)
    assert simulate(world, 1500, (200,), seed=2)[200].promoted >= 0.8 * 1500


def test_the_trial_of_a_version_that_is_much_worse_ends_by_100_ratings_an_arm() -> None:
    world = World(0.6, effect=-0.2, people=20)
    assert simulate(world, 1500, (100,), seed=3)[100].ended >= 0.8 * 1500


@pytest.mark.soak
@pytest.mark.parametrize("question", FALSE_PROMOTION, ids=str)
def test_false_promotion(question: Question) -> None:
    for count in tables.answer(question).values():
        assert upper_bound(count.promoted, question.runs) <= 0.055


@pytest.mark.soak
@pytest.mark.parametrize("question", POWER, ids=str)
def test_power(question: Question) -> None:
    counts = tables.answer(question)
    if question.must_hold:
        assert counts[200].promoted >= 0.8 * question.runs


@pytest.mark.soak
@pytest.mark.parametrize("question", HARM, ids=str)
def test_harm(question: Question) -> None:
    assert tables.answer(question)[100].ended >= 0.8 * question.runs


@pytest.mark.soak
def test_the_tables_are_written() -> None:
    tables.write()
