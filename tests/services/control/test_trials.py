"""What control says of a trial to ``jobs.promote``, and what that job may decide."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from services.database.queries import bots, versions
from services.database.queries.feedback import first_said
from services.database.tables import Comparison, Completion, Feedback, Version, new_id, now
from tests.rows import completion
from tests.services.control.conftest import JOB_TOKEN, House

both = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
BOT = "/onggi/v1/bots/support-bot"
TAGS = {"base": "SmolLM2", "revision": "sha256:1", "rank": 16, "sha256": "sha256:2"}


async def house_with_versions(house: House, *passed: int) -> str:
    """The bot and its versions, all passed; the owner's id."""
    owner: str = (await house.get("/onggi/v1/people/me"))["id"]
    async with house.database.session() as session:
        await bots.ensure(session, "support-bot", owner, "SmolLM2", "sha256:1")
        for number in passed:
            await versions.upsert(session, "support-bot", number, owner, TAGS)
            version = await versions.get(session, "support-bot", number)
            assert version is not None
            version.state = "passed"
    return owner


async def trial(house: House, **asked: Any) -> str:
    """Version 1 is the champion and 2 on trial; the owner's id."""
    owner = await house_with_versions(house, 1, 2)
    await house.post(f"{BOT}/promote", {"version": 1, "generation": 0})
    await house.post(f"{BOT}/candidate", {"version": 2, "generation": 1, "share": 0.5} | asked)
    return owner


def answer(person: str, conversation: str, version: int | None, **values: Any) -> Completion:
    """A completion of the trial's champion (1) or candidate (2)."""
    usual = {
        "conversation_key": conversation,
        "version": version,
        "arm": "candidate" if version == 2 else "champion",
        "stored": False,
        "messages": None,
        "answer": None,
        "ttft_ms": 20.0,
        "completion_tokens": 12,
        "status_code": 200,
        "created_at": now(),
    }
    return completion(new_id("chatcmpl-"), person, **usual | values)


def opinion(of: Completion, rating: int | None = None, **values: Any) -> Feedback:
    """What the person of a completion says of it, once."""
    first = first_said(rating, values.get("correction"))
    if first and "created_at" in values:
        first["rated_at"] = values["created_at"]
    return Feedback(
        id=new_id("fb_"),
        person_id=of.person_id,
        completion_id=of.id,
        conversation_key=of.conversation_key,
        bot=of.bot,
        version=of.version,
        rating=rating,
        **first,
        **values,
    )


async def write(house: House, *rows: object) -> None:
    async with house.database.session() as session:
        for row in rows:
            session.add(row)
            await session.flush()


def earlier(minutes: float) -> datetime:
    return now() - timedelta(minutes=minutes)


@both
async def test_a_conversation_counts_once_by_what_was_first_said_of_it(house: House) -> None:
    owner = await trial(house)
    liked, again = answer(owner, "a", 1), answer(owner, "a", 1)
    corrected, commented = answer(owner, "b", 2), answer(owner, "c", 2)
    rejected, pinned = answer(owner, "d", 2), answer(owner, "e", 2, arm="pinned")
    await write(house, liked, again, corrected, commented, rejected, pinned)
    await write(
        house,
        opinion(liked, 1, created_at=earlier(3)),
        opinion(again, -1, created_at=earlier(2)),
        opinion(corrected, correction="Nineteen days."),
        opinion(commented, comment="hm"),
        opinion(rejected, -1, state="rejected"),
        opinion(pinned, -1),
    )
    evidence = await house.get(f"{BOT}/evidence")
    assert [(one["arm"], one["liked"]) for one in evidence["ratings"]] == [
        ("champion", True),
        ("candidate", False),
    ]
    [person] = {one["person"] for one in evidence["ratings"]}
    assert person not in owner
    assert owner not in str(evidence)


@both
async def test_conversations_are_those_that_began_in_the_trial(house: House) -> None:
    owner = await trial(house)
    old = answer(owner, "begun before", 1, created_at=earlier(10))
    moments = [now() + timedelta(seconds=number) for number in range(5)]
    await write(
        house,
        old,
        answer(owner, "begun before", 2, created_at=moments[0]),
        answer(owner, "a", 2, created_at=moments[1], ttft_ms=31.0, completion_tokens=7),
        answer(owner, "a", 2, created_at=moments[2], status="failed", status_code=502),
        answer(owner, "b", 1, created_at=moments[3], status="failed", status_code=400),
        answer(owner, "c", 1, created_at=moments[4], completion_tokens=1),
        answer(owner, "d", 9, created_at=moments[4]),
    )
    talks = (await house.get(f"{BOT}/evidence"))["conversations"]
    figures = [(one["arm"], one["failed"], one["ttft_ms"], one["tokens"]) for one in talks]
    assert figures == [
        ("candidate", True, 31.0, 7),
        ("champion", False, 20.0, None),
        ("champion", True, 20.0, 1),
    ]


@both
async def test_what_an_older_image_wrote_beside_this_database_counts(house: House) -> None:
    owner = await trial(house)
    liked, corrected = answer(owner, "a", 2), answer(owner, "b", 1)
    rows = [opinion(liked, 1), opinion(corrected, correction="On Monday.")]
    for row in rows:
        row.first_rating = row.rated_at = None
    await write(house, liked, corrected, *rows)
    found = (await house.get(f"{BOT}/evidence"))["ratings"]
    assert [(one["arm"], one["liked"]) for one in found] == [("candidate", True), ("champion", False)]
    await house.ask("PATCH", f"/onggi/v1/feedback/{rows[0].id}", json={"rating": -1})
    assert (await house.get(f"{BOT}/evidence"))["ratings"] == found


@both
async def test_of_more_than_are_looked_at_the_first_are_and_they_stay(house: House) -> None:
    owner = await trial(house)
    moments = [now() + timedelta(seconds=number) for number in range(5)]
    # A conversation is there once its first answer ended: "a" began first and comes in last.
    await write(house, answer(owner, "a", 2, created_at=moments[0], finished_at=moments[3], ttft_ms=1.0))
    await write(house, answer(owner, "b", 1, created_at=moments[1], finished_at=moments[2], ttft_ms=2.0))
    few = {"params": {"limit": 1}}
    before = await house.get(f"{BOT}/evidence", **few)
    assert [one["ttft_ms"] for one in before["conversations"]] == [2.0]
    assert before["full"]
    await write(house, answer(owner, "c", 1, created_at=moments[4]))
    assert (await house.get(f"{BOT}/evidence", **few))["conversations"] == before["conversations"]
    everything = await house.get(f"{BOT}/evidence")
    assert ([one["ttft_ms"] for one in everything["conversations"]], everything["full"]) == (
        [2.0, 1.0, 20.0],
        False,
    )


@both
async def test_what_a_person_says_later_changes_no_evidence(house: House) -> None:
    owner = await trial(house)
    rated, commented = answer(owner, "a", 2, stored=True), answer(owner, "b", 1, stored=True)
    await write(house, rated, commented)
    await _say(house, rated, rating=1)
    await _say(house, commented, comment="hm")
    before = (await house.get(f"{BOT}/evidence"))["ratings"]
    assert [(one["arm"], one["liked"]) for one in before] == [("candidate", True)]
    changed = await _say(house, rated, rating=-1, correction="At noon.")
    assert changed["rating"] == -1
    await _change(house, changed["id"], rating=None)
    assert (await house.get(f"{BOT}/evidence"))["ratings"] == before
    await _say(house, commented, correction="At noon.")
    await _say(house, commented, rating=1)
    after = (await house.get(f"{BOT}/evidence"))["ratings"]
    assert [(one["arm"], one["liked"]) for one in after] == [("candidate", True), ("champion", False)]
    assert after[1]["at"] > before[0]["at"]
    await _change(house, changed["id"], state="rejected")
    assert (await house.get(f"{BOT}/evidence"))["ratings"] == after[1:]


async def _change(house: House, id_: str, **values: Any) -> None:
    assert (await house.ask("PATCH", f"/onggi/v1/feedback/{id_}", json=values)).is_success


async def _say(house: House, of: Completion, **words: Any) -> Any:
    return await house.post("/onggi/v1/feedback", {"completion_id": of.id, **words})


async def test_two_people_may_give_their_conversations_one_name(house: House) -> None:
    owner = await trial(house)
    ben, _ = await house.member()
    hers, his = answer(owner, "1", 2), answer(ben, "1", 2, created_at=now() + timedelta(seconds=1))
    await write(house, hers, his)
    await write(house, opinion(hers, 1), opinion(his, -1))
    evidence = await house.get(f"{BOT}/evidence")
    assert sorted(one["liked"] for one in evidence["ratings"]) == [False, True]
    assert len({one["person"] for one in evidence["ratings"]}) == len(evidence["conversations"]) == 2


async def test_blind_choices_between_the_two_count_and_others_do_not(house: House) -> None:
    owner = await trial(house)

    def compared(key: str, first: int | None, second: int | None, choice: str | None) -> Comparison:
        return Comparison(
            id=new_id("cmp_"),
            person_id=owner,
            bot="support-bot",
            conversation_key=key,
            first_version=first,
            second_version=second,
            choice=choice,
            chosen_at=now() if choice else None,
        )

    rows = [
        compared("a", 1, 2, "second"),
        compared("b", 2, 1, "second"),
        compared("c", 1, 2, "tie"),
        compared("d", 1, 2, None),
        compared("e", None, 2, "second"),
        compared("f", 7, 2, "first"),
    ]
    await write(house, *rows)
    choices = (await house.get(f"{BOT}/evidence"))["choices"]
    assert sorted(choice["chosen"] for choice in choices) == ["candidate", "champion", "tie"]


async def test_beside_a_base_the_base_is_the_champion(house: House) -> None:
    owner = await house_with_versions(house, 2)
    await house.post(f"{BOT}/candidate", {"version": 2, "generation": 0, "share": 0.5})
    by_base = answer(owner, "a", None, arm="base")
    await write(house, by_base)
    await write(house, opinion(by_base, -1))
    evidence = await house.get(f"{BOT}/evidence")
    assert [one["arm"] for one in evidence["ratings"] + evidence["conversations"]] == ["champion"] * 2


async def test_answers_in_shadow_stand_beside_what_was_shown(house: House) -> None:
    owner = await trial(house, shadow=True)
    bot = await house.get(BOT)
    assert (bot["candidate"], bot["share"], bot["shadow"]) == (2, 0.0, True)
    shown = answer(owner, "a", 1)
    unseen = answer(owner, "a", 2, arm="shadow", shadow_of=shown.id, completion_tokens=40, ttft_ms=None)
    await write(house, shown, unseen)
    evidence = await house.get(f"{BOT}/evidence")
    [pair] = evidence["shadows"]
    assert (pair["shown"]["tokens"], pair["candidate"]["tokens"]) == (12, 40)
    assert [one["arm"] for one in evidence["conversations"]] == ["champion"]
    [decision, *_] = (await house.get(f"{BOT}/decisions"))["data"]
    assert (decision["action"], decision["shadow"]) == ("shadow", True)


@both
async def test_a_shadow_that_failed_is_an_error_of_the_candidates_and_no_conversation(house: House) -> None:
    owner = await trial(house, shadow=True)
    for key, was, values in (
        ("a", {}, {"status": "failed", "status_code": 504}),
        ("b", {}, {"status": "failed", "status_code": 400}),
        ("c", {}, {"completion_tokens": 1}),
        ("d", {"status": "failed", "status_code": 502, "completion_tokens": 3}, {}),
    ):
        moment = now() + timedelta(seconds=ord(key))
        shown = answer(owner, key, 1, created_at=moment, **was)
        unseen = {
            "arm": "shadow",
            "shadow_of": shown.id,
            "created_at": moment,
        }
        await write(house, shown, answer(owner, key, 2, **unseen | {"completion_tokens": 9} | values))
    evidence = await house.get(f"{BOT}/evidence")
    pairs = [(pair["shown"], pair["candidate"]) for pair in evidence["shadows"]]
    assert [(shown["failed"], unseen["failed"]) for shown, unseen in pairs] == [
        (False, True),
        (False, True),
        (False, True),
        (True, False),
    ]
    assert [(shown["tokens"], unseen["tokens"]) for shown, unseen in pairs] == [
        (12, None),
        (12, None),
        (12, 1),
        (None, 9),
    ]
    assert [one["arm"] for one in evidence["conversations"]] == ["champion"] * 4


async def test_a_trial_is_one_candidate_at_one_share(house: House) -> None:
    owner = await trial(house)
    await write(house, rated := answer(owner, "a", 2))
    await write(house, opinion(rated, 1))
    before = await house.get(f"{BOT}/evidence")
    await house.post(f"{BOT}/inconclusive", {"generation": 2, "reason": "too few"}, key=JOB_TOKEN)
    asked = await house.get(f"{BOT}/evidence")
    assert (asked["asked_at"] > before["now"], asked["began_at"], len(asked["ratings"])) == (
        True,
        before["began_at"],
        1,
    )
    await house.post(f"{BOT}/candidate", {"version": 2, "share": 0.2, "generation": 3})
    anew = await house.get(f"{BOT}/evidence")
    assert anew["began_at"] > before["began_at"]
    assert (anew["asked_at"], anew["ratings"], anew["conversations"]) == (None, [], [])


async def test_what_is_untried_is_the_newest_that_passed(house: House) -> None:
    await house_with_versions(house, 1, 2)
    assert (await house.get(f"{BOT}/evidence"))["untried"] == 2
    await house.post(f"{BOT}/promote", {"version": 1, "generation": 0})
    await house.post(f"{BOT}/candidate", {"version": 2, "generation": 1})
    await house.post(f"{BOT}/candidate", {"version": None, "generation": 2})
    evidence = await house.get(f"{BOT}/evidence")
    assert (evidence["untried"], evidence["began_at"], evidence["ratings"]) == (None, None, [])
    await house_with_versions(house, 3)
    assert (await house.get(f"{BOT}/evidence"))["untried"] == 3
    async with house.database.session() as session:
        version = await session.get(Version, ("support-bot", 3))
        assert version is not None
        version.erased_at = now()
    assert (await house.get(f"{BOT}/evidence"))["untried"] is None


async def test_what_learned_from_erased_words_is_named(house: House) -> None:
    await trial(house)
    assert (await house.get(f"{BOT}/evidence"))["erased"] == []
    async with house.database.session() as session:
        version = await session.get(Version, ("support-bot", 2))
        assert version is not None
        version.erased_at = now()
    assert (await house.get(f"{BOT}/evidence"))["erased"] == [2]


async def test_a_job_decides_with_its_figures_and_name_but_not_on_a_pinned_bot(house: House) -> None:
    await trial(house)
    said = {"version": 2, "generation": 2, "reason": "liked", "figures": {"approval_for": 9}}
    await house.post(f"{BOT}/promote", said, key=JOB_TOKEN)
    [decision, *_] = (await house.get(f"{BOT}/decisions", key=JOB_TOKEN))["data"]
    assert (decision["author"], decision["figures"]) == ("jobs.promote", {"approval_for": 9})
    back = await house.post(f"{BOT}/pin", {"generation": 3, "version": 1})
    assert (back["champion"], back["previous"], back["pinned"]) == (1, 2, True)
    body = {"version": 2, "generation": 4}
    status, error = await house.refusal("POST", f"{BOT}/candidate", json=body, key=JOB_TOKEN)
    assert (status, error["code"]) == (409, "pinned")
    assert (await house.post(f"{BOT}/promote", body))["pinned"]  # a person may, and it stays pinned
    unpinned = await house.post(f"{BOT}/unpin", {"generation": 5})
    assert (unpinned["champion"], unpinned["pinned"]) == (2, False)
    actions = [decision["action"] for decision in (await house.get(f"{BOT}/decisions"))["data"]]
    assert actions[:3] == ["unpin", "promote", "pin"]


async def test_pinning_what_is_served_ends_a_trial(house: House) -> None:
    await trial(house)
    pinned = await house.post(f"{BOT}/pin", {"generation": 2})
    assert (pinned["champion"], pinned["candidate"], pinned["share"]) == (1, None, 0.0)


async def test_a_member_neither_sees_evidence_nor_decides(house: House) -> None:
    await trial(house)
    _, key = await house.member()
    assert (await house.refusal("GET", f"{BOT}/evidence", key=key))[0] == 403
    assert (await house.refusal("POST", f"{BOT}/pin", json={"generation": 2}, key=key))[0] == 403


async def test_without_a_trial_nothing_is_inconclusive(house: House) -> None:
    await house_with_versions(house, 1)
    status, error = await house.refusal("POST", f"{BOT}/inconclusive", json={"generation": 0}, key=JOB_TOKEN)
    assert status == 400
    assert "tries no version" in error["message"]
