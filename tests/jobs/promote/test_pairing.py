import numpy as np

from common.evidence import Arm
from jobs.promote.pairing import Observation, Pair, pair_up
from tests.jobs.promote.simulation import Pairing, World, ratings


def observations(*said: tuple[str, str, float]) -> list[Observation]:
    """(person, c for the candidate or b for the champion, value), a second apart."""
    arms: dict[str, Arm] = {"c": "candidate", "b": "champion"}
    return [Observation(who, arms[arm], at, value) for at, (who, arm, value) in enumerate(said)]


def pairs(*said: tuple[str, str, float]) -> list[tuple[float, float]]:
    return [(pair.candidate, pair.champion) for pair in pair_up(observations(*said))]


def test_one_is_paired_with_the_same_persons_latest_of_the_other_arm() -> None:
    assert pairs(("ada", "b", 1), ("ada", "b", 2), ("ada", "c", 3), ("ada", "c", 4)) == [(3, 2), (4, 1)]


def test_a_pair_is_of_the_later_ones_time() -> None:
    assert pair_up(observations(("ada", "c", 5), ("ada", "b", 6))) == [Pair(candidate=5, champion=6, at=1)]


def test_somebody_new_is_paired_with_somebody_else_who_rated_once_and_who_waited_longest() -> None:
    assert pairs(("ada", "c", 1), ("ben", "c", 2), ("cho", "b", 3)) == [(1, 3)]


def test_nobody_is_in_two_pairs_with_others() -> None:
    said = [("ada", "c", 1.0), ("ben", "b", 2.0), ("ada", "c", 3.0), ("cho", "b", 4.0), ("ben", "b", 5.0)]
    assert pairs(*said) == [(1, 2)]


def test_who_rated_twice_waits_for_nobody_else() -> None:
    assert pairs(("ada", "c", 1), ("ada", "c", 2), ("ben", "b", 3)) == []


def test_pairs_stay_as_they_are_when_more_comes_in() -> None:
    rng = np.random.default_rng(0)
    said = observations(
        *((f"p{rng.integers(5)}", "cb"[rng.integers(2)], float(number)) for number in range(60))
    )
    whole = pair_up(said)
    assert all(whole[: len(begun)] == begun for begun in (pair_up(said[:count]) for count in range(60)))


def test_the_simulation_pairs_as_the_job_does() -> None:
    world, runs = World(approval=0.6, people=7), 20
    came = list(ratings(world, runs, 150, np.random.default_rng(3)))
    pairing = Pairing(runs, 7)
    tossed = [pairing.add(one) for one in came]
    for run in range(runs):
        said = [
            Observation(
                str(one.person[run]), "candidate" if one.candidate[run] else "champion", at, one.liked[run]
            )
            for at, one in enumerate(came)
        ]
        coins = [pair for pair in pair_up(said) if pair.candidate != pair.champion]
        assert [pair.at for pair in coins] == [at for at, (toss, _) in enumerate(tossed) if toss[run]]
        assert [bool(pair.candidate) for pair in coins] == [
            bool(won[run]) for toss, won in tossed if toss[run]
        ]
