import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.control import processes
from services.control.job_folder import JobFolder
from services.control.local_runner import LocalRunner
from services.control.runner import FINISHED, Job, JobSpec
from tests.services.control.conftest import rows

ENVIRONMENT = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "VLLM_BASE_URL": "http://127.0.0.1:9/v1"}


@pytest.fixture
def runner(tmp_path: Path, root: Path) -> Iterator[LocalRunner]:
    made = LocalRunner(tmp_path / "jobs", ENVIRONMENT, root)
    yield made
    for job in made.list():
        made.cancel(job.spec.id)


def _start(runner: LocalRunner, name: str = "a", behave: str = "", **changes: Any) -> str:
    inputs = runner.folder.parent / f"inputs-{name}"
    inputs.mkdir(parents=True)
    (inputs / "train.jsonl").write_bytes(rows(2))
    (inputs / "held_out.jsonl").write_bytes(rows(1))
    values = {
        "id": f"ftjob-{name}",
        "person_id": "person_1",
        "created_at": time.time(),
        "bot": "support-bot",
        "base": "base",
        "training_file": "file-1",
        "validation_file": None,
        "hyperparameters": {"n_epochs": "auto"},
        "seed": 1,
        "metadata": None,
        "config": {"bot": "support-bot", "base": "base", "metadata": {"behave": behave}},
        "regression_set": "regression.jsonl",
        "held_out_rows": 1,
    }
    spec = JobSpec.model_validate(values | changes)
    runner.start(spec, inputs)
    return spec.id


def _wait(runner: LocalRunner, job_id: str, *states: str, seconds: float = 30) -> Job:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        runner.tick()
        job = runner.get(job_id)
        assert job is not None
        if job.status.state in (states or FINISHED):
            return job
        time.sleep(0.05)
    raise AssertionError(f"{job_id} is {job.status}")


def _wait_for_step(runner: LocalRunner, job_id: str) -> Job:
    while not (runner.folder / job_id / "output" / "metrics.jsonl").exists():
        _wait(runner, job_id, "starting", "running")
        time.sleep(0.05)
    return _wait(runner, job_id, "running")


def test_one_job_runs_at_a_time_in_the_order_they_came(runner: LocalRunner) -> None:
    first, second = _start(runner, "a", "wait"), _start(runner, "b")
    _wait_for_step(runner, first)
    runner.tick()
    assert [job.status.state for job in runner.list()] == ["queued", "running"]
    runner.cancel(first)
    assert _wait(runner, second).status.state == "succeeded"


def test_a_killed_supervisor_is_noticed_its_orphans_ended_and_its_job_resumed_once(
    runner: LocalRunner,
) -> None:
    job_id = _start(runner, behave="wait")
    killed = []
    for _ in range(2):
        job = _wait_for_step(runner, job_id)
        assert job.status.supervisor
        assert job.status.supervisor not in killed
        killed.append(job.status.supervisor)
        while len(orphans := processes.marked(runner.folder / job_id)) < 3:
            time.sleep(0.02)  # supervisor, job and the job's own process
        os.kill(job.status.supervisor[0], signal.SIGKILL)
        (runner.folder / job_id / "output" / "metrics.jsonl").unlink()
        while (again := runner.get(job_id)) and again.status.attempt == job.status.attempt:
            runner.tick()
            if again.status.state == "failed":
                break
            time.sleep(0.05)
        assert not set(orphans) & set(processes.marked(runner.folder / job_id))
    failed = _wait(runner, job_id)
    assert failed.status.state == "failed"
    assert failed.status.error
    assert failed.status.error.code == "supervisor_killed"
    assert processes.marked(runner.folder / job_id) == []
    assert (runner.folder / job_id / "output" / "attempts").read_text() == "xx"


def test_a_supervisor_killed_after_training_goes_on_with_what_is_left(runner: LocalRunner) -> None:
    job_id = _start(runner)
    _wait(runner, job_id)
    folder = JobFolder(runner.folder / job_id)
    folder.update(state="running", done=["finetune"], finished_at=None, supervisor=(999_999_999, "1"))
    assert _wait(runner, job_id).status.state == "succeeded"
    assert (folder.output / "attempts").read_text() == "x"
    assert folder.status().attempt == 2


def test_a_step_that_crashes_is_run_again_by_the_same_command(runner: LocalRunner) -> None:
    job_id = _start(runner, behave="crash once")
    job = _wait(runner, job_id, seconds=90)
    assert (job.status.state, job.status.version) == ("succeeded", "support-bot@1")
    messages = [event.message for event in runner.events(job_id)]
    assert "Step finetune ended with exit code 1: it is run again and resumes." in messages


def test_what_is_away_is_asked_again_and_named_when_it_stays_away(runner: LocalRunner) -> None:
    job_id = _start(runner, behave="away")
    job = _wait(runner, job_id, seconds=90)
    assert job.status.error
    assert (job.status.error.code, job.status.error.message) == (
        "step_failed",
        "finetune: MLflow does not answer: start it",
    )
    assert (runner.folder / job_id / "output" / "attempts").read_text() == "xxx"


def test_a_step_that_refuses_its_input_is_not_run_again_and_its_sentence_is_kept(runner: LocalRunner) -> None:
    job_id = _start(runner, behave="refuse")
    job = _wait(runner, job_id)
    assert job.status.state == "failed"
    assert job.status.error
    assert job.status.error.code == "invalid_configuration"
    assert job.status.error.message == "finetune: row 3 is longer than max_length: shorten it"
    assert (runner.folder / job_id / "output" / "attempts").read_text() == "x"


def test_cancel_ends_every_process_that_the_job_has_started(runner: LocalRunner) -> None:
    job_id = _start(runner, behave="wait")
    _wait_for_step(runner, job_id)
    job = runner.cancel(job_id)
    assert job is not None
    assert job.status.state == "cancelled"
    assert processes.marked(runner.folder / job_id) == []
    runner.tick()
    assert _wait(runner, job_id).status.state == "cancelled"


def test_a_job_inherits_neither_controls_secrets_nor_settings_that_would_win_over_its_file(
    runner: LocalRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JWT_SECRET_KEY", "a secret")
    monkeypatch.setenv("FINETUNE_RANK", "2")
    job_id = _start(runner, behave="wait")
    job = _wait_for_step(runner, job_id)
    assert job.status.supervisor
    environ = Path(f"/proc/{job.status.supervisor[0]}/environ").read_bytes()
    assert b"JWT_SECRET_KEY" not in environ
    assert b"FINETUNE_RANK" not in environ
    assert b"MLFLOW_TRACKING_URI=http://127.0.0.1:9" in environ


def test_an_id_from_a_url_cannot_leave_the_folder(runner: LocalRunner, tmp_path: Path) -> None:
    _start(runner)
    for job_id in ("../inputs-a", "ftjob-a/..", "", ".", "ftjob-none"):
        assert runner.get(job_id) is None


def test_a_pid_that_came_round_again_is_not_taken_for_ours() -> None:
    me = processes.identify(os.getpid())
    assert me
    assert processes.alive(me)
    assert not processes.alive((me[0], str(int(me[1]) - 1)))
    assert not processes.alive(None)
