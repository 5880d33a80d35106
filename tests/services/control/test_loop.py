"""From what people said to what is trained on: reviews, examples, datasets and who may train on them once."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from services.database.queries import bots
from services.database.tables import Comparison, Completion, Feedback, now
from tests.rows import completion, stored
from tests.services.control.conftest import BASE, JOB_TOKEN, House, rows

BOT = "support-bot"
DIGEST = f"sha256:{'0' * 64}"
both_databases = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)


async def _bot(house: House) -> str:
    owner = (await house.get("/onggi/v1/people/me"))["id"]
    async with house.database.session() as session:
        await bots.ensure(session, BOT, owner, BASE, "sha256:1")
    return str(owner)


async def _answer(house: House, person: str, name: str, **changes: Any) -> str:
    usual = {
        "conversation_key": f"talk-{name}",
        "version": None,
        "arm": "base",
        "messages": [{"role": "user", "content": f"When is {name}?"}],
    }
    row = completion(f"chatcmpl-{name}", person, **usual | changes)
    async with house.database.session() as session:
        session.add(row)
    return row.id


async def _say(house: House, completion: str, state: str | None = None, **said: Any) -> Any:
    row = await house.post("/onggi/v1/feedback", {"completion_id": completion} | said)
    if state:
        row = (await house.ask("PATCH", f"/onggi/v1/feedback/{row['id']}", json={"state": state})).json()
    return row


async def _examples(house: House, **query: Any) -> list[Any]:
    found, after, more = [], "", True
    while more:
        asked = {"bot": BOT, "limit": 2, "after": after} | query
        page = await house.get("/onggi/v1/examples", params=asked, key=JOB_TOKEN)
        found += page["data"]
        after, more = page["next"], page["has_more"]
    return found


async def test_an_owner_fixes_what_a_person_wrote_and_their_change_is_to_be_reviewed_again(
    house: House,
) -> None:
    owner = await _bot(house)
    ben, key = await house.member()
    completion = await _answer(house, ben, "lunch")
    said = await house.post(
        "/onggi/v1/feedback", {"completion_id": completion, "correction": "At 1"}, key=key
    )
    path = f"/onggi/v1/feedback/{said['id']}"
    fixed = (await house.ask("PATCH", path, json={"correction": "At 1 p.m."})).json()
    assert (fixed["state"], fixed["correction"], fixed["reviewed_by"]) == ("fixed", "At 1 p.m.", owner)
    assert (await _examples(house))[0]["correction"] == "At 1 p.m."
    changed = (await house.ask("PATCH", path, json={"correction": "At 2"}, key=key)).json()
    assert (changed["state"], changed["reviewed_by"], changed["reviewed_at"]) == ("new", None, None)
    assert await _examples(house) == []


async def test_an_owner_accepts_from_the_review_in_one_request_and_a_member_cannot(house: House) -> None:
    owner = await _bot(house)
    ben, key = await house.member()
    said = {"completion_id": await _answer(house, ben, "lunch"), "rating": 1, "state": "accepted"}
    status, error = await house.refusal("POST", "/onggi/v1/feedback", json=said, key=key)
    assert (status, error["param"]) == (403, "state")
    row = await house.post("/onggi/v1/feedback", said)
    assert (row["state"], row["reviewed_by"]) == ("accepted", owner)


@both_databases
async def test_only_what_was_reviewed_is_an_example_and_choices_come_with_both_answers(house: House) -> None:
    owner = await _bot(house)
    await _say(house, await _answer(house, owner, "kept"), "accepted", correction="At noon.")
    await _say(house, await _answer(house, owner, "refused"), "rejected", correction="Rubbish.")
    await _say(house, await _answer(house, owner, "unseen"), rating=1)
    await _say(house, await _answer(house, owner, "other", bot="sales-bot"), "accepted", rating=1)
    await _say(house, await _answer(house, owner, "gone"), "accepted", rating=1)
    async with house.database.session() as session:
        erased = await session.get(Completion, "chatcmpl-gone")
        assert erased is not None
        erased.stored, erased.messages, erased.answer = False, None, None
    await _answer(house, owner, "a")
    await _answer(house, owner, "b", answer=stored("At six."))
    async with house.database.session() as session:
        shown = {"first_id": "chatcmpl-a", "second_id": "chatcmpl-b", "conversation_key": "talk-a"}
        common = {"person_id": owner, "bot": BOT, **shown}
        session.add(Comparison(id="cmp_1", choice="second", chosen_at=now(), **common))
        session.add(Comparison(id="cmp_2", **common))
    kept, chosen = await _examples(house)
    assert (kept["kind"], kept["completion_id"], kept["correction"]) == (
        "feedback",
        "chatcmpl-kept",
        "At noon.",
    )
    assert kept["messages"][0]["content"] == "When is kept?"
    assert (chosen["kind"], chosen["id"], chosen["choice"]) == ("comparison", "cmp_1", "second")
    assert [chosen["first"]["content"], chosen["second"]["content"]] == ["Never.", "At six."]
    everything = await _examples(house, unreviewed=True)
    assert {row.get("completion_id") for row in everything} == {"chatcmpl-kept", "chatcmpl-unseen", None}


async def test_examples_are_for_owners_and_jobs(house: House) -> None:
    await _bot(house)
    _, key = await house.member()
    status, _ = await house.refusal("GET", "/onggi/v1/examples", params={"bot": BOT}, key=key)
    assert status == 403
    status, _ = await house.refusal("GET", "/onggi/v1/examples", params={"bot": "nobody"}, key=JOB_TOKEN)
    assert status == 404


@both_databases
async def test_the_review_draws_answers_that_nobody_rated_and_names_no_version(house: House) -> None:
    owner = await _bot(house)
    for number in range(6):
        await _answer(house, owner, str(number))
    await _say(house, "chatcmpl-0", rating=1)
    await _answer(house, owner, "unstored", stored=False, messages=None, answer=None)
    await _answer(house, owner, "shadow", arm="shadow", shadow_of="chatcmpl-1")
    seen: set[str] = set()
    for _ in range(30):
        drawn = (await house.get("/onggi/v1/review", params={"bot": BOT, "limit": 2}))["data"]
        assert len(drawn) == 2
        assert not {"version", "arm", "model"} & drawn[0].keys()
        seen |= {item["completion_id"] for item in drawn}
    assert seen == {f"chatcmpl-{number}" for number in range(1, 6)}


async def _claimed(house: House, owner: str, ids: list[str]) -> dict[str, Any]:
    """A dataset of these opinions, claimed and about to be recorded."""
    claim = {"bot": BOT, "dataset_digest": DIGEST}
    claimed = await house.post("/onggi/v1/retrains", claim, key=JOB_TOKEN)
    source = {"kind": "feedback", "person_id": owner, "conversation_key": "k"}
    return {
        "digest": DIGEST,
        "bot": BOT,
        "retrain_id": claimed["id"],
        "sources": [source | {"id": id_, "held_out": False, "learned": True} for id_ in ids],
        "figures": {"rows": len(ids)},
        "files": ["train.jsonl", "heldout.jsonl"],
    }


async def test_a_dataset_whose_words_were_erased_is_refused_and_its_claim_given_up(house: House) -> None:
    owner = await _bot(house)
    said = await _say(house, await _answer(house, owner, "a"), "accepted", correction="At noon.")
    stale = await _claimed(house, owner, [said["id"], "fb_erased"])
    status, error = await house.refusal("POST", "/onggi/v1/datasets", json=stale, key=JOB_TOKEN)
    assert (status, error["code"]) == (409, "erased_meanwhile")
    assert (await house.get("/onggi/v1/retrains"))["data"] == []  # nobody waits for what will not be
    dataset = await _claimed(house, owner, [said["id"]])
    await house.post("/onggi/v1/datasets", dataset, key=JOB_TOKEN)


async def test_progress_counts_corrections_that_no_dataset_had(house: House) -> None:
    owner = await _bot(house)
    ids = [
        (await _say(house, await _answer(house, owner, name), "accepted", correction="At noon."))["id"]
        for name in ("a", "b", "c")
    ]
    await _say(house, await _answer(house, owner, "d"), rating=-1)
    ben, _ = await house.member()
    async with house.database.session() as session:  # an earlier correction of the same answer, by its asker
        earlier = {"correction": "At 11.", "state": "accepted", "updated_at": now() - timedelta(hours=1)}
        session.add(
            Feedback(
                id="fb_1",
                person_id=ben,
                completion_id="chatcmpl-a",
                bot=BOT,
                conversation_key="talk-a",
                **earlier,
            )
        )
    path = f"/onggi/v1/bots/{BOT}/progress"
    before = await house.get(path)
    assert (before["corrections"], before["needed"], before["base"]) == (3, 60, BASE)
    assert before["sentence"] == (
        "3 of 60 corrections until the next retrain; 1 opinions wait for an owner's review."
    )
    dataset = await _claimed(house, owner, ids[:2])
    made = await house.post("/onggi/v1/datasets", dataset, key=JOB_TOKEN)
    kept = await house.get(f"/onggi/v1/datasets/{DIGEST}", params={"bot": BOT}, key=JOB_TOKEN)
    assert kept == made
    assert (kept["sources"], kept["figures"]) == (dataset["sources"], {"rows": 2})
    upload = await house.http.post(
        "/v1/files",
        headers={
            "Idempotency-Key": f"{dataset['retrain_id']}:train.jsonl",
            "Authorization": f"Bearer {JOB_TOKEN}",
        },
        files={"file": ("train.jsonl", rows(1)), "purpose": (None, "fine-tune")},
    )
    assert upload.json()["id"] == kept["training_file"]
    assert (await house.get(path, key=JOB_TOKEN))["corrections"] == 3
    started = {"state": "started", "job_id": "ftjob-1"}
    answer = await house.ask(
        "PATCH", f"/onggi/v1/retrains/{dataset['retrain_id']}", json=started, key=JOB_TOKEN
    )
    assert answer.json()["job_id"] == "ftjob-1"
    after = await house.get(path)
    assert (after["corrections"], after["last"]["dataset_digest"]) == (1, DIGEST)


def _dataset(owner: str, number: int, **held_out: bool) -> dict[str, Any]:
    """A dataset with an opinion of each conversation."""
    sources = [
        {"kind": "feedback", "id": f"fb_{key}", "person_id": owner, "conversation_key": key, "held_out": held}
        for key, held in held_out.items()
    ]
    digest = f"sha256:{number:064x}"
    named = {"digest": digest, "bot": BOT, "retrain_id": f"retrain_{number}", "sources": sources}
    return named | {"figures": {}, "files": ["train.jsonl", "heldout.jsonl"]}


async def _opinions(house: House, owner: str, *keys: str) -> None:
    async with house.database.session() as session:
        for key in keys:
            session.add(Feedback(id=f"fb_{key}", person_id=owner, bot=BOT, conversation_key=key, rating=1))


@both_databases
async def test_a_conversation_that_was_in_a_dataset_is_on_the_same_side_in_all_later_ones(
    house: House,
) -> None:
    owner = await _bot(house)
    await _opinions(house, owner, "a", "b", "c")
    path = f"/onggi/v1/bots/{BOT}/sides"
    await house.post("/onggi/v1/datasets", _dataset(owner, 1, a=True, b=False), key=JOB_TOKEN)
    for moved in (_dataset(owner, 2, a=False, b=False), _dataset(owner, 2, c=False, b=True)):
        status, error = await house.refusal("POST", "/onggi/v1/datasets", json=moved, key=JOB_TOKEN)
        assert (status, error["code"]) == (409, "recorded_otherwise")
    await house.post("/onggi/v1/datasets", _dataset(owner, 2, c=True, b=False), key=JOB_TOKEN)
    async with house.database.session() as session:  # the side outlives the words
        await session.delete(await session.get(Feedback, "fb_a"))
    recorded = await house.get(path, key=JOB_TOKEN)
    assert (recorded["learned"], recorded["held_out"]) == (["b"], ["a", "c"])
    _, member = await house.member()
    assert (await house.refusal("GET", path, key=member))[0] == 403
    assert (await house.refusal("GET", "/onggi/v1/bots/nobody/sides", key=JOB_TOKEN))[0] == 404


@both_databases
async def test_of_two_datasets_at_once_that_disagree_one_is_recorded(house: House) -> None:
    owner = await _bot(house)
    await _opinions(house, owner, "a")
    path, headers = "/onggi/v1/datasets", {"Authorization": f"Bearer {JOB_TOKEN}"}
    made = [_dataset(owner, number, a=number % 2 == 0) for number in range(8)]
    answers = await asyncio.gather(*(house.http.post(path, json=one, headers=headers) for one in made))
    taken = {
        one["sources"][0]["held_out"] for one, answer in zip(made, answers, strict=True) if answer.is_success
    }
    assert len(taken) == 1


@both_databases
async def test_schedulers_that_claim_one_dataset_at_once_all_get_the_same_retrain(house: House) -> None:
    await _bot(house)
    claim = {"bot": BOT, "dataset_digest": DIGEST}
    claims = (house.post("/onggi/v1/retrains", claim, key=JOB_TOKEN) for _ in range(8))
    assert len({row["id"] for row in await asyncio.gather(*claims)}) == 1
    assert len((await house.get("/onggi/v1/retrains"))["data"]) == 1
    status, _ = await house.refusal("POST", "/onggi/v1/retrains", json=claim)
    assert status == 401


async def test_one_idempotency_key_makes_one_file_and_one_fine_tune(house: House) -> None:
    key = {"Idempotency-Key": "retrain_1:train"}
    headers = key | {"Authorization": f"Bearer {JOB_TOKEN}"}

    async def upload(content: bytes) -> str:
        files = {"file": ("train.jsonl", content), "purpose": (None, "fine-tune")}
        answer = await house.http.post("/v1/files", headers=headers, files=files)
        assert answer.is_success, answer.text
        return str(answer.json()["id"])

    first = await upload(rows(8))
    assert await upload(rows(8)) == first
    asked = {"model": BASE, "training_file": first, "suffix": BOT, "seed": 1}

    async def create() -> str:
        answer = await house.http.post("/v1/fine_tuning/jobs", headers=headers, json=asked)
        assert answer.is_success, answer.text
        return str(answer.json()["id"])

    assert len(set(await asyncio.gather(*(create() for _ in range(4))))) == 1
    assert len((await house.get("/v1/fine_tuning/jobs"))["data"]) == 1
    assert (await house.get("/v1/files"))["data"][-1]["id"] == first
