"""Which model a name goes to."""

import asyncio

import openai
import pytest
from sqlalchemy import update

from services.database.tables import Bot, Version, now
from services.gateway.served import ServedBot, ServedVersion, Snapshot, Target, VersionName
from tests.services.gateway.conftest import House, both_databases, eventually, listening
from tests.services.gateway.fake_upstream import BASE

HELLO = [{"role": "user", "content": "Hello"}]


async def ask(house: House, model: str, **more: object) -> str:
    """Ask, and say which model the upstream was asked for."""
    await house.client().chat.completions.create(model=model, messages=HELLO, **more)
    return str(house.upstream.bodies[-1]["model"])


async def serve(house: House, **values: object) -> None:
    """Change what support-bot serves, and wait until the gateway has polled it."""
    async with house.database.session() as session:
        await session.execute(update(Bot).where(Bot.name == "support-bot").values(**values))


@both_databases
async def test_a_bot_is_its_champion_a_version_is_itself_and_a_base_is_the_base(house: House) -> None:
    assert await ask(house, "support-bot") == "support-bot@1"
    assert await ask(house, "support-bot@1") == "support-bot@1"
    assert await ask(house, "support-bot@2") == "support-bot@2"
    assert await ask(house, BASE) == BASE
    rows = await house.rows()
    assert [(row.model, row.bot, row.version, row.arm) for row in rows] == [
        ("support-bot", "support-bot", 1, "champion"),
        ("support-bot@1", "support-bot", 1, "pinned"),
        ("support-bot@2", "support-bot", 2, "pinned"),
        (BASE, None, None, "base"),
    ]


async def test_a_bot_without_a_champion_answers_with_its_base(house: House) -> None:
    assert await ask(house, "new-bot") == BASE
    row = await house.row()
    assert (row.bot, row.version, row.arm) == ("new-bot", None, "base")


@pytest.mark.parametrize(
    "model", ["support-bot@3", "support-bot@9", "other-bot", "gpt-5", "support-bot@01", "☃"]
)
async def test_an_unknown_or_retired_name_is_openais_404(house: House, model: str) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        await ask(house, model)
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
    assert not house.upstream.bodies


async def test_a_version_made_this_moment_is_found_before_a_404_is_given(house: House) -> None:
    async with house.database.session() as session:
        owner = (await session.get_one(Bot, "support-bot")).person_id
        session.add(
            Version(bot="new-bot", number=1, person_id=owner, base=BASE, revision="r", rank=8, sha256="s")
        )
    assert await ask(house, "new-bot@1") == "new-bot@1"


async def test_a_promotion_is_followed_within_two_seconds(house: House) -> None:
    assert await ask(house, "support-bot") == "support-bot@1"
    await serve(house, champion=2, previous=1, generation=2)

    async def follows() -> bool:
        return await ask(house, "support-bot") == "support-bot@2"

    await eventually(follows, 2.5)


async def test_the_candidate_gets_its_share_and_a_conversation_keeps_its_arm(house: House) -> None:
    await serve(house, candidate=2, share=0.5, generation=2)
    await asyncio.sleep(1.3)  # polled every second
    asked: dict[int, set[str]] = {}
    for number in [*range(20), *range(20)]:
        model = await ask(house, "support-bot", metadata={"conversation_id": f"conversation-{number}"})
        asked.setdefault(number, set()).add(model)
    assert all(len(models) == 1 for models in asked.values())
    candidates = sum(models == {"support-bot@2"} for models in asked.values())
    assert 3 <= candidates <= 17
    arms = {(row.conversation_key, row.arm, row.version) for row in await house.rows()}
    assert len(arms) == 20
    assert {(arm, version) for _, arm, version in arms} == {("champion", 1), ("candidate", 2)}


async def test_an_unknown_name_while_the_upstream_was_never_seen_is_a_503_and_not_a_404(house: House) -> None:
    house.upstream.refusal = (500, "", {})
    async with listening(house.settings) as url:
        client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=house.key, max_retries=0)
        with pytest.raises(openai.InternalServerError) as refused:
            await client.chat.completions.create(model="some-base", messages=HELLO)
        await client.close()
    assert refused.value.status_code == 503


def snapshot(**values: object) -> Snapshot:
    """Versions 1 and 2 of bot b, with what is served given."""
    row = {"name": "b", "base": BASE, "champion": 1, "candidate": None, "share": 0.0, "created_at": now()}
    versions = [ServedVersion(VersionName("b", number), BASE, now()) for number in (1, 2)]
    return Snapshot({"b": ServedBot(**{**row, **values})}, {version.name: version for version in versions})


def test_the_share_is_met_over_many_conversations() -> None:
    served = snapshot(candidate=2, share=0.2)
    drawn = [served.target("b", f"key-{number}") for number in range(5000)]
    share = sum(target is not None and target.arm == "candidate" for target in drawn) / 5000
    assert 0.18 < share < 0.22


def test_a_share_of_none_or_all_is_meant_exactly() -> None:
    for share, version in ((0.0, 1), (1.0, 2)):
        served = snapshot(candidate=2, share=share)
        assert {served.target("b", f"key-{number}").version for number in range(500)} == {version}


def test_a_new_candidate_draws_anew() -> None:
    first, second = snapshot(champion=1, candidate=2, share=0.5), snapshot(champion=2, candidate=1, share=0.5)
    keys = [f"key-{number}" for number in range(400)]
    same = sum(first.target("b", key).arm == second.target("b", key).arm for key in keys)
    assert 120 < same < 280


def test_a_champion_that_is_retired_leaves_the_base() -> None:
    assert snapshot(champion=7).target("b", "key") == Target(BASE, "base", "b")
