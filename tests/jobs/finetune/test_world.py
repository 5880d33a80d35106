"""Processes agree on how they end, and on what the first of them says."""

from pathlib import Path

import pytest

from common.errors import TooBigError, UserError
from jobs.finetune.train import _seed_dropout
from jobs.finetune.world import World, joined
from tests.jobs.finetune.processes import Jobs


def out_of_memory_on_one() -> None:
    with joined(60) as world, world.agreement():
        if world.rank == 1:
            raise TooBigError("the second GPU is too small")


def messages() -> None:
    with joined(60) as world:
        told = world.told({"step": 7} if world.leads else "not looked at")
        print(told, world.sum(0.1 + world.rank), world.sum(float("nan")))


def test_work_that_is_too_big_for_one_is_too_big_for_all(jobs: Jobs, tmp_path: Path) -> None:
    ended = [job.wait() for job in jobs.call_together(out_of_memory_on_one, 2, tmp_path)]
    assert [(one.code, one.stderr) for one in ended] == [(3, "error: the second GPU is too small\n")] * 2


def test_all_hear_the_first_and_the_sums_of_all(jobs: Jobs, tmp_path: Path) -> None:
    ended = [job.wait() for job in jobs.call_together(messages, 3, tmp_path)]
    assert [one.stdout for one in ended] == ["{'step': 7} 3.3000000000000003 nan\n"] * 3


def test_a_process_alone_agrees_with_itself_and_needs_no_network() -> None:
    world = World()
    assert world.leads
    assert (world.told([1]), world.sum(0.1)) == ([1], 0.1)
    with pytest.raises(UserError, match="mine"), world.agreement():
        raise UserError("mine")


def test_dropout_differs_by_step_and_by_process_but_not_by_run() -> None:
    import torch

    def draw(seed: int, step: int, rank: int) -> tuple[float, ...]:
        _seed_dropout(seed, step, rank)
        return tuple(torch.rand(4).tolist())

    first = draw(0, 0, 0)
    assert len({first, draw(0, 0, 1), draw(0, 1, 0), draw(1, 0, 0)}) == 4
    assert draw(0, 0, 0) == first
