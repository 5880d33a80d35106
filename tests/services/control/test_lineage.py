"""From an answer to the ratings behind it, and from a rating to what learned from it."""

from typing import Any

import pytest
from sqlalchemy import delete

from services.database.tables import Bot, Comparison, Completion, Dataset, Feedback, Version
from tests.rows import completion, correction
from tests.services.control.conftest import BASE, JOB_TOKEN, House

BOT, DIGEST = "support-bot", "sha256:abc"
WORDS = "secret words"


def answer(id_: str, person_id: str, **changes: Any) -> Completion:
    """An answer in a conversation of its own."""
    words = [{"role": "user", "content": WORDS}]
    return completion(
        id_, person_id, **{"conversation_key": f"talk {id_}", "messages": words, "version": 2} | changes
    )


class Team:
    """The base said something, Ben and Cleo corrected it, version 2 learned that and answered Ben."""

    def __init__(self, house: House) -> None:
        self.house = house

    async def fill(self) -> None:
        self.ben, self.bens_key = await self.house.member("Ben")
        self.cleo, self.cleos_key = await self.house.member("Cleo")
        async with self.house.database.session() as session:
            session.add(Bot(name=BOT, person_id=self.ben, base=BASE, champion=2))
            await session.flush()
            base = {"version": None, "arm": "base"}
            session.add_all(
                [
                    answer("chatcmpl-1", self.ben, **base),
                    answer("chatcmpl-2", self.cleo, **base),
                    answer("chatcmpl-3", self.ben, prompt_version="p3", trace_id="t" * 32),
                    answer("chatcmpl-4", self.ben, arm="shadow", version=3, shadow_of="chatcmpl-3"),
                    # What version 2 failed to say unseen is no answer of it.
                    answer(
                        "chatcmpl-unseen", self.ben, arm="shadow", shadow_of="chatcmpl-0", status="failed"
                    ),
                ]
            )
            await session.flush()
            session.add_all(
                [
                    correction("fb_1", self.ben, "chatcmpl-1", WORDS),
                    correction("fb_2", self.cleo, "chatcmpl-2", WORDS),
                ]
            )
            self._learned(session)

    def _learned(self, session: Any) -> None:
        sources = [
            {
                "kind": "feedback",
                "id": f"fb_{n}",
                "person_id": who,
                "conversation_key": "k",
                "held_out": n == 2,
            }
            for n, who in ((1, self.ben), (2, self.cleo))
        ]
        session.add(
            Dataset(digest=DIGEST, bot=BOT, person_id=self.ben, training_file="file-1",
                    validation_file="file-2", sources=sources, figures={})
        )  # fmt: skip
        session.add(
            Version(bot=BOT, number=2, person_id=self.ben, base=BASE, revision="r", rank=8, sha256="s",
                    state="passed", dataset_digest=DIGEST, job_id="ftjob-1", run_id="f" * 32)
        )  # fmt: skip

    async def lineage(self, id_: str, **rest: Any) -> dict[str, Any]:
        found: dict[str, Any] = await self.house.get(f"/onggi/v1/lineage/{id_}", **rest)
        assert "secret words" not in str(found)
        return found


def names(nodes: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(node["kind"], node["id"]) for node in nodes]


@pytest.fixture
async def team(house: House) -> Team:
    made = Team(house)
    await made.fill()
    return made


@pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
async def test_an_answer_is_followed_to_the_ratings_behind_it(team: Team) -> None:
    found = await team.lineage("chatcmpl-3")
    assert names(found["came_from"]) == [
        ("version", "support-bot@2"),
        ("base", BASE),
        ("run", "f" * 32),
        ("job", "ftjob-1"),
        ("dataset", DIGEST),
        ("feedback", "fb_1"),
        ("feedback", "fb_2"),
        ("prompt", "p3"),
        ("trace", "t" * 32),
    ]
    hangs = {node["id"]: node["of"] for node in found["came_from"]}
    assert (hangs["support-bot@2"], hangs["f" * 32]) == ("chatcmpl-3", "support-bot@2")
    assert (hangs[DIGEST], hangs["fb_1"]) == ("f" * 32, DIGEST)
    facts = {node["id"]: node["facts"] for node in found["came_from"]}
    assert (facts["fb_1"]["completion"], facts["fb_2"]["held_out"]) == ("chatcmpl-1", True)
    assert (facts[DIGEST]["ratings"], facts[DIGEST]["people"], facts[DIGEST]["erased"]) == (2, 2, 0)
    assert names(found["led_to"]) == [("completion", "chatcmpl-4")]


async def test_a_rating_is_followed_to_what_learned_from_it(team: Team) -> None:
    found = await team.lineage("fb_1", key=team.bens_key)
    assert names(found["came_from"]) == [("completion", "chatcmpl-1"), ("base", BOT)]
    assert names(found["led_to"]) == [("dataset", DIGEST), ("version", "support-bot@2")]
    rated = await team.lineage("chatcmpl-1", key=team.bens_key)
    assert names(rated["led_to"]) == [
        ("feedback", "fb_1"),
        ("dataset", DIGEST),
        ("version", "support-bot@2"),
    ]


@pytest.mark.parametrize("id_", ["support-bot@2", "ftjob-1", "f" * 32])
async def test_a_version_is_followed_both_ways_also_from_its_job_and_run(team: Team, id_: str) -> None:
    found = await team.lineage(id_, key=JOB_TOKEN)
    assert names(found["came_from"])[3:] == [("dataset", DIGEST), ("feedback", "fb_1"), ("feedback", "fb_2")]
    assert (found["of"]["id"], found["of"]["facts"]["answers"]) == ("support-bot@2", 1)
    assert names(found["led_to"]) == [("completion", "chatcmpl-3")]


async def test_a_dataset_is_followed_both_ways_and_tells_what_was_erased(team: Team) -> None:
    async with team.house.database.session() as session:
        await session.execute(delete(Feedback).where(Feedback.id == "fb_1"))
    found = await team.lineage(DIGEST)
    assert names(found["came_from"]) == [("feedback", "fb_1"), ("feedback", "fb_2")]
    assert [node["facts"]["there"] for node in found["came_from"]] == [False, True]
    assert names(found["led_to"]) == [("version", "support-bot@2")]
    assert found["of"]["facts"]["erased"] == 1
    erased = await team.lineage("fb_1")
    assert (erased["of"]["facts"], names(erased["led_to"])[0]) == ({"there": False}, ("dataset", DIGEST))


async def test_a_choice_is_followed_to_both_answers(team: Team) -> None:
    async with team.house.database.session() as session:
        session.add(answer("chatcmpl-5", team.ben, version=3))
        await session.flush()
        session.add(
            Comparison(id="cmp_1", person_id=team.ben, bot=BOT, conversation_key="k", choice="first",
                       first_id="chatcmpl-3", second_id="chatcmpl-5")
        )  # fmt: skip
    found = await team.lineage("cmp_1")
    assert ("completion", "chatcmpl-3") in names(found["came_from"])
    assert ("completion", "chatcmpl-5") in names(found["came_from"])


async def test_a_member_is_told_of_their_own_and_how_many_others(team: Team) -> None:
    found = await team.lineage(DIGEST, key=team.bens_key)
    assert names(found["came_from"]) == [("feedback", "fb_1")]
    assert found["of"]["facts"]["ratings"] == 2
    for id_ in ("chatcmpl-2", "fb_2", "chatcmpl-9", "fb_9", "sha256:none", "other-bot@1"):
        status, error = await team.house.refusal("GET", f"/onggi/v1/lineage/{id_}", key=team.bens_key)
        assert status == 404
    assert "completion's id" in error["message"]
