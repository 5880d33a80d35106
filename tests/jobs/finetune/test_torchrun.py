"""torchrun's front ends as the trainer did, so that a Job's podFailurePolicy tells mistakes from deaths."""

from pathlib import Path

import pytest

from jobs.finetune.torchrun import exit_code, main
from tests.jobs.finetune.processes import Jobs


@pytest.mark.parametrize("code", [0, 2])
def test_the_exit_code_is_the_trainers(code: int, jobs: Jobs, tmp_path: Path) -> None:
    trainer = ["--no-python", "sh", "-c", f"echo rank $RANK of $WORLD_SIZE; exit {code}"]
    ended = jobs.call(main, tmp_path, "--nproc-per-node=1", *trainer).wait()
    assert (ended.code, ended.stdout) == (code, "rank 0 of 1\n")


@pytest.mark.parametrize(
    ("codes", "expected"),
    [([2], 2), ([-15, 3], 3), ([1, 2], 2), ([1, -15], 1), ([-9], 137), ([-9, 1], 137)],
    ids=["mistake", "too-big", "a-mistake-wins", "failed", "killed", "killed-first"],
)
def test_what_forbids_a_retry_wins_and_a_signal_is_said_as_a_shell_does(
    codes: list[int], expected: int
) -> None:
    assert exit_code(codes) == expected
