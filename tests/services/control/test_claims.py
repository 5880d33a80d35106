"""One retrain of a bot at a time, a dataset once, and nobody who died keeps others waiting for ever."""

import asyncio
from datetime import timedelta
from typing import Any

import httpx
import pytest

from services.control.job_folder import JobFolder
from services.control.local_runner import LocalRunner
from services.database.queries import bots
from services.database.tables import Retrain
from tests.services.control.conftest import BASE, JOB_TOKEN, House, rows, until

BOT = "support-bot"
FIRST, SECOND = (f"sha256:{digit * 64}" for digit in "12")
CLAIMS = "/onggi/v1/retrains"
both_databases = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture(autouse=True)
async def bot(house: House) -> None:
    """A bot, whose fine-tunes stay queued."""
    assert isinstance(house.control.runner, LocalRunner)
    house.control.runner.tick = lambda: None  # type: ignore[method-assign]
    owner = (await house.get("/onggi/v1/people/me"))["id"]
    async with house.database.session() as session:
        await bots.ensure(session, BOT, owner, BASE, "sha256:1")


async def ask(house: House, digest: str, **given: Any) -> httpx.Response:
    return await house.ask("POST", CLAIMS, json={"bot": BOT, "dataset_digest": digest} | given, key=JOB_TOKEN)


async def claim(house: House, digest: str, **given: Any) -> Any:
    answer = await ask(house, digest, **given)
    assert answer.is_success, answer.text
    return answer.json()


async def refusal(house: House, digest: str, **given: Any) -> str:
    answer = await ask(house, digest, **given)
    assert answer.status_code == 409, answer.text
    return str(answer.json()["error"]["message"])


async def fine_tune(house: House, claimed: Any, *, told: bool = True) -> str:
    """What a retrain does after its claim; ``told`` False: it is killed before it says so."""
    upload = await house.ask(
        "POST", "/v1/files", files={"file": ("r.jsonl", rows(8))}, data={"purpose": "fine-tune"}
    )
    asked = {"model": BASE, "training_file": upload.json()["id"], "suffix": BOT}
    job = await house.post(
        "/v1/fine_tuning/jobs", asked | {"metadata": {"retrain": claimed["id"]}}, key=JOB_TOKEN
    )
    if told:
        body = {"state": "started", "job_id": job["id"]}
        answer = await house.ask("PATCH", f"{CLAIMS}/{claimed['id']}", json=body, key=JOB_TOKEN)
        assert answer.is_success
    return str(job["id"])


def end(house: House, job_id: str, state: str, **told: Any) -> None:
    JobFolder(house.settings.jobs_dir / job_id).update(state=state, finished_at=2.0, **told)


async def age(house: House, claimed: Any, seconds: float) -> None:
    async with house.database.session() as session:
        row = await session.get(Retrain, claimed["id"])
        assert row is not None
        row.updated_at -= timedelta(seconds=seconds)


@both_databases
async def test_of_claims_for_two_datasets_at_once_one_is_given(house: House) -> None:
    digests = [f"sha256:{number:064x}" for number in range(8)]
    answers = await asyncio.gather(*(ask(house, digest) for digest in digests))
    assert sorted(answer.status_code for answer in answers) == [200, *[409] * 7]
    assert len((await house.get(CLAIMS))["data"]) == 1


@both_databases
async def test_another_dataset_waits_until_the_fine_tune_has_ended(house: House) -> None:
    first = await claim(house, FIRST)
    assert "retrains support-bot on other rows" in await refusal(house, SECOND)
    job_id = await fine_tune(house, first)
    assert f"{job_id} is under way" in await refusal(house, SECOND)
    assert f"{job_id}, on the same rows, is under way" in await refusal(house, FIRST)
    end(house, job_id, "succeeded")
    assert (await claim(house, SECOND))["state"] == "claimed"


async def test_a_claim_of_one_that_died_is_gone_on_with_or_given_up_in_time(house: House) -> None:
    first = await claim(house, FIRST)
    assert (await claim(house, FIRST))["id"] == first["id"]
    await age(house, first, house.settings.claim_seconds - 60)
    assert "is given up after 3600 s" in await refusal(house, SECOND)
    await age(house, first, 60)
    await claim(house, SECOND)
    # It was not dead: before it begins it asks again.
    assert "on other rows" in await refusal(house, FIRST, retrain_id=first["id"])


async def test_one_that_is_heard_of_again_is_not_given_up(house: House) -> None:
    first = await claim(house, FIRST)
    await age(house, first, house.settings.claim_seconds)
    assert (await claim(house, FIRST, retrain_id=first["id"]))["id"] == first["id"]
    assert "on other rows" in await refusal(house, SECOND)


async def test_a_fine_tune_that_nobody_had_time_to_tell_of_is_known(house: House) -> None:
    first = await claim(house, FIRST)
    job_id = await fine_tune(house, first, told=False)
    await age(house, first, house.settings.claim_seconds)
    assert f"{job_id} is under way" in await refusal(house, SECOND)
    end(house, job_id, "succeeded")
    assert f"Nothing was said since {job_id}" in await refusal(house, FIRST)
    await claim(house, SECOND)


@both_databases
async def test_a_fine_tune_that_nobody_had_time_to_tell_of_is_written_down(house: House) -> None:
    first = await claim(house, FIRST)
    job_id = await fine_tune(house, first, told=False)

    async def told() -> Any:
        return (await house.get(CLAIMS))["data"][0]["state"] == "started"

    await until(told)
    (row,) = (await house.get(CLAIMS))["data"]
    assert (row["id"], row["job_id"]) == (first["id"], job_id)


async def test_a_fine_tune_that_began_since_they_were_listed_is_waited_for(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await claim(house, FIRST)
    runner = house.control.runner
    assert runner is not None
    monkeypatch.setattr(runner, "list", list)  # as they were when it was asked
    body = {"state": "started", "job_id": "ftjob-1"}
    await house.ask("PATCH", f"{CLAIMS}/{first['id']}", json=body, key=JOB_TOKEN)
    await age(house, first, -60)
    assert "ftjob-1 has begun meanwhile" in await refusal(house, SECOND)
    await age(house, first, 120)  # its record is gone, for it has ended
    await claim(house, SECOND)


async def test_a_claim_whose_words_were_erased_is_not_gone_on_with(house: House) -> None:
    first = await claim(house, FIRST)
    async with house.database.session() as session:
        await session.delete(await session.get(Retrain, first["id"]))
    assert "were erased since it was claimed" in await refusal(house, FIRST, retrain_id=first["id"])
    await claim(house, SECOND)


async def test_what_failed_is_begun_again_by_force_only_and_waits_for_others(house: House) -> None:
    first = await claim(house, FIRST)
    end(house, failed := await fine_tune(house, first), "failed", error={"code": "x", "message": "Too big"})
    assert f"{failed} failed: Too big. Mend that" in await refusal(house, FIRST)
    second = await claim(house, SECOND)
    assert "on other rows" in await refusal(house, FIRST, force=True)
    end(house, await fine_tune(house, second), "cancelled")
    again = await claim(house, FIRST, force=True)
    assert (again["id"], again["state"], again["job_id"]) == (first["id"], "claimed", failed)
    assert "on other rows" in await refusal(house, SECOND, force=True)
    assert (await claim(house, FIRST))["job_id"] == failed  # whoever comes goes on with it
    end(house, job_id := await fine_tune(house, again), "succeeded")
    assert f"Nothing was said since {job_id}" in await refusal(house, FIRST, force=True)


async def test_a_bot_that_is_not_there_is_no_claim(house: House) -> None:
    answer = await house.ask("POST", CLAIMS, json={"bot": "nobody", "dataset_digest": FIRST}, key=JOB_TOKEN)
    assert answer.status_code == 404
