import asyncio
from typing import Any

import pytest

from services.database.queries import bots, served, versions
from tests.services.control.conftest import BASE, JOB_TOKEN, House

both = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
BOT = "/onggi/v1/bots/support-bot"
TAGS = {"base": "SmolLM2", "revision": "sha256:1", "rank": 16, "sha256": "sha256:2"}


async def _versions(house: House, **states: str) -> None:
    """The bot, and versions v1, v2, ... in these states."""
    async with house.database.session() as session:
        owner = (await house.get("/onggi/v1/people/me"))["id"]
        await bots.ensure(session, "support-bot", owner, "SmolLM2", "sha256:1")
        for name, state in states.items():
            number = int(name.removeprefix("v"))
            await versions.upsert(session, "support-bot", number, owner, TAGS)
            version = await versions.get(session, "support-bot", number)
            assert version is not None
            version.state = state
            version.figures = {"fixed": number}


async def _decide(house: House, what: str, **body: Any) -> Any:
    return await house.post(f"{BOT}/{what}", body)


@both
async def test_of_two_promotions_at_once_one_wins_and_the_other_is_told_the_generation(house: House) -> None:
    await _versions(house, v1="passed", v2="passed")
    answers = await asyncio.gather(
        *(house.ask("POST", f"{BOT}/promote", json={"version": number, "generation": 0}) for number in (1, 2))
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    [won], [lost] = ([answer for answer in answers if answer.status_code == status] for status in (200, 409))
    assert won.json()["generation"] == 1
    error = lost.json()["error"]
    assert (error["code"], error["param"]) == ("generation_conflict", "generation")
    assert "support-bot is at generation 1 now" in error["message"]
    decisions = (await house.get(f"{BOT}/decisions"))["data"]
    assert [decision["action"] for decision in decisions] == ["promote", "create"]
    assert decisions[0]["champion"] == won.json()["champion"]
    assert decisions[0]["figures"] == {"fixed": won.json()["champion"]}
    assert decisions[0]["author"] == "ada"


async def test_promote_try_beside_and_roll_back(house: House) -> None:
    await _versions(house, v1="passed", v2="passed")
    first = await _decide(house, "promote", version="support-bot@1", generation=0)
    assert (first["champion"], first["previous"], first["generation"]) == (1, None, 1)
    trial = await _decide(house, "candidate", version=2, share=0.25, generation=1)
    assert (trial["champion"], trial["candidate"], trial["share"]) == (1, 2, 0.25)
    second = await _decide(house, "promote", version=2, generation=2)
    assert (second["champion"], second["previous"], second["candidate"], second["share"]) == (2, 1, None, 0.0)
    back = await _decide(house, "rollback", generation=3, reason="rude answers")
    assert (back["champion"], back["previous"], back["generation"]) == (1, 2, 4)
    decisions = (await house.get(f"{BOT}/decisions"))["data"]
    assert [decision["generation"] for decision in decisions] == [4, 3, 2, 1, 0]
    assert decisions[0]["reason"] == "rude answers"


async def test_the_first_champion_rolls_back_to_the_base_and_then_there_is_nothing(house: House) -> None:
    await _versions(house, v1="passed")
    await _decide(house, "promote", version=1, generation=0)
    back = await _decide(house, "rollback", generation=1)
    assert (back["champion"], back["previous"]) == (None, 1)
    status, error = await house.refusal("POST", f"{BOT}/rollback", json={"generation": 2})
    assert status == 400
    assert "serves its base" in error["message"]


async def test_ending_a_trial_leaves_the_champion(house: House) -> None:
    await _versions(house, v1="passed", v2="passed")
    await _decide(house, "promote", version=1, generation=0)
    await _decide(house, "candidate", version=2, generation=1)
    ended = await _decide(house, "candidate", version=None, generation=2)
    assert (ended["champion"], ended["candidate"], ended["share"]) == (1, None, 0.0)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"version": 1, "generation": 9}, 409, "at generation 0 now"),
        ({"version": 2, "generation": 0}, 400, "support-bot@2 is refused, not passed"),
        ({"version": 2, "generation": 0, "force": True}, 400, "send force: true and the reason"),
        ({"version": 3, "generation": 0, "force": True, "reason": "r"}, 400, "is retired"),
        ({"version": 9, "generation": 0}, 404, "No version support-bot@9"),
        ({"version": "other-bot@1", "generation": 0}, 400, "is no version of support-bot"),
        ({"version": 1}, 400, "generation"),
        ({"version": 1, "generation": 0, "when": "now"}, 400, "when"),
    ],
)
async def test_what_may_not_be_served_is_refused_with_the_reason(
    house: House, body: dict[str, Any], status: int, words: str
) -> None:
    await _versions(house, v1="passed", v2="refused", v3="retired")
    got, error = await house.refusal("POST", f"{BOT}/promote", json=body)
    assert got == status
    assert words in error["message"]
    assert (await house.get(BOT))["generation"] == 0


async def test_an_owner_serves_what_did_not_pass_by_force_with_a_reason(house: House) -> None:
    await _versions(house, v1="ungated")
    await _decide(house, "promote", version=1, generation=0, force=True, reason="no held-out rows yet")
    [decision, _] = (await house.get(f"{BOT}/decisions"))["data"]
    assert decision["reason"] == "no held-out rows yet"


async def test_a_retired_previous_champion_is_no_way_back(house: House) -> None:
    await _versions(house, v1="passed", v2="passed")
    await _decide(house, "promote", version=1, generation=0)
    await _decide(house, "promote", version=2, generation=1)
    async with house.database.session() as session:
        assert await served.retire(session, "support-bot", 1)
    status, error = await house.refusal("POST", f"{BOT}/rollback", json={"generation": 2})
    assert status == 400
    assert "support-bot@1 is retired" in error["message"]


async def test_a_member_looks_and_does_not_decide(house: House) -> None:
    await _versions(house, v1="passed")
    _, key = await house.member()
    assert [bot["name"] for bot in (await house.get("/onggi/v1/bots", key=key))["data"]] == ["support-bot"]
    for what, body in (
        ("promote", {"version": 1, "generation": 0}),
        ("rollback", {"generation": 0}),
        ("candidate", {"version": 1, "generation": 0}),
    ):
        status, error = await house.refusal("POST", f"{BOT}/{what}", json=body, key=key)
        assert (status, error["type"]) == (403, "permission_error")


async def test_a_bot_that_is_not_there_is_a_404(house: House) -> None:
    for method, path in (("GET", ""), ("GET", "/decisions"), ("POST", "/rollback")):
        status, error = await house.refusal(
            method, f"/onggi/v1/bots/nobody{path}", json={"generation": 0} if method == "POST" else None
        )
        assert status == 404
        assert "'nobody'" in error["message"]


async def test_a_bot_can_be_made_before_it_was_ever_trained(house: House) -> None:
    asked = {"name": "support-bot", "base": BASE}
    made = await house.post("/onggi/v1/bots", asked)
    assert (made["base"], made["champion"], made["generation"]) == (BASE, None, 0)
    assert (await house.ask("POST", "/onggi/v1/bots", json=asked)).status_code == 409
    refused = await house.ask("POST", "/onggi/v1/bots", json={"name": "other", "base": "llama-9"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "base")


async def test_a_job_may_ask_what_is_served(house: House) -> None:
    await _versions(house)
    assert (await house.ask("GET", BOT, key=JOB_TOKEN)).json()["champion"] is None
