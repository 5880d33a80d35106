"""A person is erased: what learned from them is listed, retrained without them, and retired."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from common.control_client import ControlClient
from jobs.retrain.config import RetrainConfig
from services.control import erasing
from services.database.tables import Comparison, Version, now
from tests.jobs.retrain.conftest import BOT, answer, correct, end, runner
from tests.jobs.retrain.test_retrain import run
from tests.services.control.conftest import BASE, House

SECRET = "Pickle the cat"
OTHERS, THEIRS = 12, 6


async def say_something_private(house: House) -> str:
    """Corrections by a member, reviewed by the owner; who said them."""
    person_id, key = await house.member("Ben")
    for number in range(THEIRS):
        question = f"What did {SECRET} do at the workshop on day {number} of the month?"
        about = await answer(house, f"ben-{number}", question, person_id=person_id)
        said = {"completion_id": about, "correction": f"{SECRET} slept in room {number}."}
        row = await house.post("/onggi/v1/feedback", said, key=key)
        accepted = await house.ask("PATCH", f"/onggi/v1/feedback/{row['id']}", json={"state": "accepted"})
        assert accepted.is_success
    return person_id


async def begin_on_everybody(
    house: House, control: ControlClient, bens: Callable[[House], Awaitable[str]] = say_something_private
) -> tuple[str, str]:
    """A fine-tune on the owner's corrections and what Ben said (``bens``) begins; who Ben is, and the job."""
    for number in range(OTHERS):
        await correct(house, number)
    person_id = await bens(house)
    begun = await run(control)
    assert begun.job_id
    return person_id, begun.job_id


async def register(house: House, number: int, job_id: str) -> None:
    """The fine-tune ended and made version ``number``, which passed."""
    end(house, job_id, "succeeded")
    claimed = (await house.get("/onggi/v1/retrains"))["data"]
    digest = next(row["dataset_digest"] for row in claimed if row["job_id"] == job_id)
    owner = (await house.get("/onggi/v1/people/me"))["id"]
    async with house.database.session() as session:
        session.add(
            Version(bot=BOT, number=number, person_id=owner, base=BASE, revision="sha256:1", rank=8,
                    sha256="ab", state="passed", job_id=job_id, dataset_digest=digest, note=SECRET)
        )  # fmt: skip


async def promote(house: House, number: int) -> None:
    bot = await house.get(f"/onggi/v1/bots/{BOT}")
    body = {"version": number, "generation": bot["generation"]}
    await house.post(f"/onggi/v1/bots/{BOT}/promote", body)


def holding(house: House) -> list[Path]:
    """The files of store and jobs that have the person's words in them."""
    folders = (Path(house.settings.store_url), runner(house).folder)
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if SECRET.encode() in path.read_bytes()]


async def states(house: House) -> dict[str, Any]:
    found = (await house.get("/onggi/v1/versions"))["data"]
    return {row["name"]: (row["state"], row["erased_at"] is not None) for row in found}


async def test_an_erased_person_is_in_no_file_and_in_no_later_dataset(
    house: House, control: ControlClient
) -> None:
    person_id, first_job = await begin_on_everybody(house, control)
    await register(house, 1, first_job)
    await promote(house, 1)
    assert holding(house)

    told = (await house.ask("DELETE", f"/onggi/v1/people/{person_id}/words")).json()
    assert (told["feedback"], told["versions"], told["waiting"]) == (THEIRS, [f"{BOT}@1"], [])
    assert holding(house) == []
    progress = await house.get(f"/onggi/v1/bots/{BOT}/progress")
    assert progress["erased"] == [f"{BOT}@1"]

    second = await run(control)
    assert second.state == "started", second
    assert second.job_id
    assert holding(house) == []
    learned = (runner(house).folder / second.job_id / "train.jsonl").read_text().splitlines()
    assert 0 < len(learned) <= OTHERS
    assert all(json.loads(line)["messages"] for line in learned)
    await register(house, 2, second.job_id)
    await promote(house, 2)
    await erasing.keep_settling(house.control)
    assert await states(house) == {f"{BOT}@1": ("retired", True), f"{BOT}@2": ("passed", False)}


async def test_a_fine_tune_under_way_on_erased_words_is_cancelled_and_another_begins(
    house: House, control: ControlClient
) -> None:
    person_id, first_job = await begin_on_everybody(house, control)
    assert (await house.ask("DELETE", f"/onggi/v1/people/{person_id}/words")).is_success
    job = await house.get(f"/v1/fine_tuning/jobs/{first_job}")
    assert job["status"] == "cancelled"
    assert holding(house) == []
    second = await run(control)
    assert (second.state, second.job_id != first_job) == ("started", True)
    assert holding(house) == []


async def dislike_and_choose(house: House) -> str:
    """A member's thumbs-down and blind choices, on which nothing is trained; who that is."""
    person_id, key = await house.member("Ben")
    for number in range(THEIRS):
        asked = f"What did {SECRET} do on day {number}?"
        shown = [await answer(house, f"{which}-{number}", asked, person_id=person_id) for which in "ab"]
        row = await house.post("/onggi/v1/feedback", {"completion_id": shown[0], "rating": -1}, key=key)
        await house.ask("PATCH", f"/onggi/v1/feedback/{row['id']}", json={"state": "accepted"})
        async with house.database.session() as session:
            session.add(
                Comparison(id=f"cmp_{number}", person_id=person_id, bot=BOT, first_id=shown[0],
                           second_id=shown[1], conversation_key="talk", choice="first", chosen_at=now())
            )  # fmt: skip
    return person_id


async def test_an_erasure_of_what_nothing_was_trained_on_leaves_versions_and_makes_nothing_due(
    house: House, control: ControlClient
) -> None:
    person_id, first_job = await begin_on_everybody(house, control, dislike_and_choose)
    assert {path.parent.name for path in holding(house)} == {"files"}
    told = (await house.ask("DELETE", f"/onggi/v1/people/{person_id}/words")).json()
    assert (told["feedback"], told["comparisons"], told["versions"]) == (THEIRS, THEIRS, [])
    assert holding(house) == []
    job = await house.get(f"/v1/fine_tuning/jobs/{first_job}")
    assert job["status"] == "queued"  # it reads none of their words, and goes on
    await register(house, 1, first_job)
    await erasing.settle(house.control)
    assert await states(house) == {f"{BOT}@1": ("passed", False)}
    progress = await house.get(f"/onggi/v1/bots/{BOT}/progress")
    assert (progress["erased"], progress["due_for_erasure"], progress["corrections"]) == ([], False, 0)
    assert (await run(control)).sentence == "0 of 10 corrections until the next retrain"


async def test_rows_that_failed_and_lost_nothing_to_learn_from_can_be_tried_again(
    house: House, control: ControlClient
) -> None:
    """Their files went with what else was in the dataset, so they are uploaded anew."""
    person_id, first_job = await begin_on_everybody(house, control, dislike_and_choose)
    end(house, first_job, "failed")
    assert (await house.ask("DELETE", f"/onggi/v1/people/{person_id}/words")).is_success
    assert f"Fine-tune {first_job} failed" in (await run(control)).sentence
    force = RetrainConfig(force=True)
    house.control.erased.discard(erasing.EVERYTHING)
    assert "still to be erased: ask again" in (await run(control, force)).sentence
    await erasing.keep_settling(house.control)
    second = await run(control, force)
    assert second.state == "started", second
    digests = {row["dataset_digest"] for row in (await house.get("/onggi/v1/retrains"))["data"]}
    assert len(digests) == 1
    assert holding(house) == []


async def test_what_a_retrain_would_not_change_is_not_due(house: House, control: ControlClient) -> None:
    """A version of an upload is erased, and one was trained on everything that people said."""
    for number in range(OTHERS):
        await correct(house, number)
    path = f"/onggi/v1/bots/{BOT}/progress"
    begun = await run(control)
    await register(house, 1, str(begun.job_id))
    async with house.database.session() as session:
        owner = (await house.get("/onggi/v1/people/me"))["id"]
        session.add(
            Version(bot=BOT, number=2, person_id=owner, base=BASE, revision="sha256:1", rank=8, sha256="ab",
                    state="passed", job_id="ftjob-by-hand", dataset_digest="sha256:mine", erased_at=now())
        )  # fmt: skip
    told = await house.get(path)
    assert (told["erased"], told["due_for_erasure"]) == ([f"{BOT}@2"], False)
    assert "what learned without them is to be served. 0 of 60 corrections" in told["sentence"]
    assert (await run(control)).sentence == "0 of 10 corrections until the next retrain"
    end(house, str(begun.job_id), "failed")  # had it not been trained, it would be
    assert (await house.get(path))["due_for_erasure"]
