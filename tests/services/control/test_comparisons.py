"""Two answers side by side: who may compare which, and that a choice stands."""

from typing import Any

import pytest

from services.database.tables import Bot
from tests.rows import completion, stored
from tests.services.control.conftest import BASE, House

COMPARISONS = "/onggi/v1/comparisons"
HELLO = [{"role": "user", "content": "When?"}]


async def answered(house: House, person_id: str, id_: str, **changes: Any) -> str:
    usual = {
        "model": f"support-bot@{changes.get('version', 7)}",
        "arm": "pinned",
        "messages": HELLO,
        "answer": stored(id_),
    }
    async with house.database.session() as session:
        session.add(completion(id_, person_id, **usual | changes))
    return id_


@pytest.fixture
async def ben(house: House) -> tuple[str, str]:
    """A member's id and key, and a bot to talk to."""
    person_id, key = await house.member()
    async with house.database.session() as session:
        session.add(Bot(name="support-bot", person_id=person_id, base=BASE, champion=6, candidate=7))
    return person_id, key


@pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
async def test_a_choice_is_blind_until_it_is_made_and_stands(house: House, ben: tuple[str, str]) -> None:
    person_id, key = ben
    pair = [await answered(house, person_id, "a", version=6), await answered(house, person_id, "b")]
    body = {"bot": "support-bot", "completions": pair}
    begun = await house.post(COMPARISONS, body, key=key)
    assert (begun["choice"], begun["first_id"], begun["second_id"]) == (None, "a", "b")
    assert not {"first_version", "second_version"} & begun.keys()
    assert (await house.post(COMPARISONS, body | {"completions": pair[::-1]}, key=key))["id"] == begun["id"]
    path = f"{COMPARISONS}/{begun['id']}/choice"
    chosen = await house.post(path, {"choice": "second"}, key=key)
    assert (chosen["first_version"], chosen["second_version"]) == (6, 7)
    assert await house.post(path, {"choice": "second"}, key=key) == chosen
    status, error = await house.refusal("POST", path, json={"choice": "tie"}, key=key)
    assert status == 409
    assert "a choice stands" in error["message"]
    turns = (await house.get("/onggi/v1/conversations/talk", key=key))["turns"]
    assert {turn["id"]: turn["passed_over"] for turn in turns} == {"a": True, "b": False}


async def test_a_base_is_compared_with_a_version(house: House, ben: tuple[str, str]) -> None:
    person_id, key = ben
    base = {"model": BASE, "bot": None, "version": None, "arm": "base"}
    pair = [await answered(house, person_id, "a", **base), await answered(house, person_id, "b")]
    begun = await house.post(COMPARISONS, {"bot": "support-bot", "completions": pair}, key=key)
    chosen = await house.post(f"{COMPARISONS}/{begun['id']}/choice", {"choice": "tie"}, key=key)
    assert (chosen["first_version"], chosen["second_version"]) == (None, 7)
    said = await house.post("/onggi/v1/feedback", {"completion_id": "a", "correction": "At nine."}, key=key)
    assert said["bot"] == "support-bot"  # who asks for the base alone rates no bot


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": 7}, "one version"),
        ({"conversation_key": "other"}, "one message"),
        ({"messages": [{"role": "user", "content": "Where?"}]}, "one message"),
        ({"stored": False, "messages": None}, "store: true"),
        ({"status": "interrupted"}, "not a whole"),
        ({"bot": "other-bot"}, "not by support-bot"),
    ],
)
async def test_what_cannot_be_compared_is_a_400(
    house: House, ben: tuple[str, str], changes: dict[str, Any], words: str
) -> None:
    person_id, key = ben
    pair = [
        await answered(house, person_id, "a"),
        await answered(house, person_id, "b", **{"version": 6} | changes),
    ]
    body = {"bot": "support-bot", "completions": pair}
    status, error = await house.refusal("POST", COMPARISONS, json=body, key=key)
    assert status == 400
    assert words in error["message"]


async def test_nobody_compares_or_chooses_for_another(house: House, ben: tuple[str, str]) -> None:
    person_id, key = ben
    pair = [await answered(house, person_id, "a", version=6), await answered(house, person_id, "b")]
    body = {"bot": "support-bot", "completions": pair}
    assert (await house.refusal("POST", COMPARISONS, json=body))[0] == 404  # not even an owner
    begun = await house.post(COMPARISONS, body, key=key)
    path = f"{COMPARISONS}/{begun['id']}/choice"
    assert (await house.refusal("POST", path, json={"choice": "first"}))[0] == 404
    await answered(house, person_id, "c", arm="shadow", shadow_of="a")
    body["completions"] = ["a", "c"]
    assert (await house.refusal("POST", COMPARISONS, json=body, key=key))[0] == 404
