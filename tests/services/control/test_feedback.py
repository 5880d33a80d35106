from typing import Any

import pytest

from tests.rows import completion, stored
from tests.services.control.conftest import JOB_TOKEN, House

FEEDBACK = "/onggi/v1/feedback"


async def _answer(house: House, person_id: str, name: str = "1", **changes: Any) -> str:
    row = completion(f"chatcmpl-{name}", person_id, **changes)
    async with house.database.session() as session:
        session.add(row)
    return row.id


async def test_a_person_rates_then_corrects_and_it_stays_one_row(house: House) -> None:
    ben, key = await house.member()
    completion = await _answer(house, ben)
    rated = await house.post(FEEDBACK, {"completion_id": completion, "rating": -1}, key=key)
    assert (rated["rating"], rated["state"], rated["bot"], rated["version"]) == (-1, "new", "support-bot", 7)
    corrected = await house.post(FEEDBACK, {"completion_id": completion, "correction": "On Monday."}, key=key)
    assert (corrected["id"], corrected["rating"], corrected["correction"]) == (rated["id"], -1, "On Monday.")
    assert len((await house.get(FEEDBACK, key=key))["data"]) == 1


async def test_an_owner_accepts_and_a_member_does_not(house: House) -> None:
    ben, key = await house.member()
    row = await house.post(FEEDBACK, {"completion_id": await _answer(house, ben), "rating": 1}, key=key)
    path = f"{FEEDBACK}/{row['id']}"
    status, _ = await house.refusal("PATCH", path, json={"state": "accepted"}, key=key)
    assert status == 403
    accepted = (await house.ask("PATCH", path, json={"state": "accepted"})).json()
    assert (accepted["state"], accepted["rating"]) == ("accepted", 1)
    commented = (await house.ask("PATCH", path, json={"comment": "hm"}, key=key)).json()
    assert (commented["state"], commented["comment"]) == ("accepted", "hm")
    _, other = await house.member("Cleo")
    status, _ = await house.refusal("PATCH", path, json={"rating": 1}, key=other)
    assert status == 404


async def test_the_cursor_reads_everything_once_and_changes_again_also_for_jobs(house: House) -> None:
    ben, key = await house.member()
    ids = []
    for number in range(5):
        completion = await _answer(house, ben, str(number))
        ids.append((await house.post(FEEDBACK, {"completion_id": completion, "rating": 1}, key=key))["id"])
    seen, after, more = [], "", True
    while more:
        page = await house.get(FEEDBACK, params={"limit": 2, "after": after}, key=JOB_TOKEN)
        seen += [row["id"] for row in page["data"]]
        after, more = page["next"], page["has_more"]
    assert seen == ids
    assert (await house.get(FEEDBACK, params={"after": after}))["data"] == []
    await house.ask("PATCH", f"{FEEDBACK}/{ids[2]}", json={"state": "fixed"})
    page = await house.get(FEEDBACK, params={"after": after})
    assert [row["id"] for row in page["data"]] == [ids[2]]
    assert (await house.get(FEEDBACK, params={"state": "fixed"}))["data"] == page["data"]


async def test_nobody_rates_or_reads_what_is_not_theirs(house: House) -> None:
    ben, key = await house.member()
    _, other = await house.member("Cleo")
    completion = await _answer(house, ben)
    status, _ = await house.refusal(
        "POST", FEEDBACK, json={"completion_id": completion, "rating": 1}, key=other
    )
    assert status == 404
    await house.post(FEEDBACK, {"completion_id": completion, "comment": "private"}, key=key)
    assert (await house.get(FEEDBACK, key=other))["data"] == []
    assert (await house.get("/onggi/v1/conversations", key=other))["data"] == []
    status, _ = await house.refusal("GET", "/onggi/v1/conversations/talk", key=other)
    assert status == 404


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "give a rating"),
        ({"rating": 5}, "rating"),
        ({"rating": 1, "stars": 5}, "stars"),
        ({"correction": ""}, "correction"),
    ],
)
async def test_feedback_that_says_nothing_is_a_400(house: House, change: dict[str, Any], words: str) -> None:
    status, error = await house.refusal("POST", FEEDBACK, json={"completion_id": "chatcmpl-1"} | change)
    assert status == 400
    assert words in f"{error['param']} {error['message']}"


async def test_what_cannot_be_learned_from_is_not_corrected(house: House) -> None:
    ben, key = await house.member()
    completion = await _answer(house, ben, stored=False, messages=None, answer=None)
    body = {"completion_id": completion, "correction": "On Monday."}
    status, error = await house.refusal("POST", FEEDBACK, json=body, key=key)
    assert (status, error["param"]) == (400, "correction")
    assert "store: true" in error["message"]


async def test_a_broken_cursor_is_a_400(house: House) -> None:
    status, error = await house.refusal("GET", FEEDBACK, params={"after": "yesterday"})
    assert (status, error["param"]) == (400, "after")


async def test_a_conversation_tells_who_answered_and_what_was_said_of_it(house: House) -> None:
    ben, key = await house.member()
    first = await _answer(house, ben, "1")
    await _answer(house, ben, "2", version=8)
    await _answer(house, ben, "3", stored=False, messages=None, answer=None)
    await house.post(FEEDBACK, {"completion_id": first, "rating": 1}, key=key)
    [summary] = (await house.get("/onggi/v1/conversations", key=key))["data"]
    assert (summary["id"], summary["turns"], summary["model"]) == ("talk", 2, "support-bot")
    shown = await house.get("/onggi/v1/conversations/talk", key=key)
    assert [turn["version"] for turn in shown["turns"]] == [7, 8]
    assert shown["turns"][0]["answer"] == stored("Never.")
    assert [row["rating"] for row in shown["turns"][0]["feedback"]] == [1]
    assert await house.get("/onggi/v1/conversations/talk") == shown  # an owner reads everybody's
    assert (await house.get("/onggi/v1/conversations"))["data"] == []
