"""A fine-tune that failed is said, its corrections count again, and the same rows are not tried for ever."""

import asyncio
import threading
from typing import Any

import pytest

from common.control_client import ControlClient
from jobs.curate.dataset import Curated
from jobs.retrain import retraining
from jobs.retrain.config import RetrainConfig
from services.control.job_folder import JobFolder
from services.control.runner import JobError
from tests.jobs.retrain.conftest import BOT, correct, end, runner
from tests.jobs.retrain.test_retrain import ENOUGH, both_databases, jobs, run, say
from tests.services.control.conftest import House

TOO_BIG = JobError(code="does_not_fit", message="finetune: needs 40 GiB")


async def progress(house: House) -> Any:
    return await house.get(f"/onggi/v1/bots/{BOT}/progress")


async def fail(house: House, control: ControlClient, **status: Any) -> str:
    """A fine-tune on twelve corrections ends; badly, unless ``status`` says otherwise."""
    await say(house, 12)
    job_id = (await run(control)).job_id
    assert job_id
    JobFolder(runner(house).folder / job_id).update(state="failed", finished_at=2.0, error=TOO_BIG, **status)
    return job_id


async def test_a_failed_fine_tune_is_said_with_its_reason_and_its_corrections_count_again(
    house: House, control: ControlClient
) -> None:
    job_id = await fail(house, control)
    told = await progress(house)
    assert (told["corrections"], told["last"]) == (12, None)
    assert told["failed"].startswith(
        f"Fine-tune {job_id} failed: finetune: needs 40 GiB. Mend that and retrain"
    )
    assert told["sentence"] == f"12 of 60 corrections until the next retrain. {told['failed']}"
    await house.http.post("/admin/login", data={"username": "ada", "password": "a password"})
    retrain = (await house.get("/onggi/v1/retrains"))["data"][0]["id"]
    for page in ("list", f"details/{retrain}"):
        assert told["failed"] in (await house.http.get(f"/admin/retrain/{page}")).text
    below = await run(control, RetrainConfig(minimum=60))
    assert (below.state, below.sentence) == ("waits", told["sentence"])


async def test_the_same_rows_are_tried_again_by_force_only_and_other_rows_by_themselves(
    house: House, control: ControlClient
) -> None:
    first = await fail(house, control)
    for _ in range(2):
        by_itself = await run(control)
        assert (by_itself.state, len(await jobs(house))) == ("waits", 1)
        assert by_itself.sentence == (await progress(house))["failed"]
    forced = await run(control, RetrainConfig(force=True))
    assert forced.state == "started"
    assert forced.job_id != first
    assert (await house.get("/onggi/v1/retrains"))["data"][0]["job_id"] == forced.job_id
    end(house, str(forced.job_id), "failed")
    await correct(house, 12)
    other = await run(control)
    assert other.state == "started", other
    end(house, str(other.job_id), "succeeded")
    told = await progress(house)
    assert (told["failed"], told["corrections"], told["last"]["job_id"]) == (None, 0, other.job_id)


async def test_a_cancelled_fine_tune_is_said_and_its_corrections_count_again(
    house: House, control: ControlClient
) -> None:
    await say(house, 12)
    job_id = (await run(control)).job_id
    await house.post(f"/v1/fine_tuning/jobs/{job_id}/cancel", {})
    told = await progress(house)
    assert told["corrections"] == 12
    assert f"Fine-tune {job_id} was cancelled. " in told["sentence"]
    assert (await run(control)).sentence == told["failed"]


async def test_what_made_a_version_that_was_not_judged_was_learned_from(
    house: House, control: ControlClient
) -> None:
    await fail(house, control, version=f"{BOT}@7")
    told = await progress(house)
    assert told["corrections"] == 0
    assert f"{BOT}@7 is there and was not judged" in told["sentence"]


@both_databases
async def test_schedulers_between_whom_something_was_accepted_start_one_fine_tune(
    house: House, control: ControlClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has its dataset before any has claimed one."""
    await say(house, 12)
    older = await asyncio.to_thread(retraining.curate, control, BOT, ENOUGH)
    await correct(house, 12)
    newer = await asyncio.to_thread(retraining.curate, control, BOT, ENOUGH)
    assert older.digest != newer.digest
    made, both = iter([older, newer]), threading.Barrier(2)

    def meet(*_: Any) -> Curated:
        both.wait(30)
        return next(made)

    monkeypatch.setattr(retraining, "curate", meet)
    outcomes = await asyncio.gather(run(control), run(control))
    (job,) = await jobs(house)
    assert sorted(outcome.state for outcome in outcomes) == ["started", "waits"]
    assert {outcome.job_id for outcome in outcomes} == {job["id"], None}
