"""Versions and replicas get traffic once they can answer; what cannot be loaded gets none, and says so."""

from typing import Any

import openai
import pytest
from sqlalchemy import update

from services.database.tables import Bot, Version
from services.gateway import warmup
from tests.services.gateway.conftest import House, eventually
from tests.services.gateway.fake_upstream import BASE, listed
from tests.services.gateway.replicas.fleet import Fleet, constant_load, gauge_is, sample, until

HELLO = [{"role": "user", "content": "Hello"}]
UNAVAILABLE = "onggi_gateway_version_unavailable"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warmup, "FIRST_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(warmup, "LONGEST_PAUSE_SECONDS", 0.1)


async def serve(house: House, **values: object) -> None:
    """Change what support-bot serves."""
    async with house.database.session() as session:
        await session.execute(update(Bot).where(Bot.name == "support-bot").values(**values))


async def ask(house: House, conversation: str = "c", model: str = "support-bot") -> str:
    """The version that answers."""
    answer = await house.client().chat.completions.with_raw_response.create(
        model=model, messages=HELLO, metadata={"conversation_id": conversation}
    )
    return str(answer.headers["x-onggi-model"])


def asked_for(fleet: Fleet) -> set[str]:
    return {str(body["model"]) for fake in fleet.replicas for body in fake.bodies}


async def test_a_promoted_version_is_loaded_everywhere_before_it_answers_and_no_request_fails(
    house: House, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warmup, "TOGETHER_SECONDS", 60.0)
    first, second = fleet.replicas
    second.thaw_warm_ups.clear()
    async with constant_load(house) as outcome:
        await serve(house, champion=2, previous=1, generation=2)
        await until(lambda: "support-bot@2" in first.warmed and "support-bot@2" in second.warmed)
        before = outcome.whole
        await until(lambda: outcome.whole >= before + 12)
        assert asked_for(fleet) == {"support-bot@1"}
        second.thaw_warm_ups.set()
        await until(lambda: all(fake.bodies[-1]["model"] == "support-bot@2" for fake in fleet.replicas))
    assert (outcome.refused, outcome.broken) == ([], [])
    assert await ask(house) == "support-bot@2"


async def test_a_version_does_not_wait_for_ever_for_a_replica_that_is_slow_to_load_it(
    house: House, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warmup, "TOGETHER_SECONDS", 0.2)
    first, second = fleet.replicas
    second.thaw_warm_ups.clear()
    await serve(house, champion=2, previous=1, generation=2)
    await eventually(lambda: _answers(house, "support-bot@2"))
    for number in range(6):
        await ask(house, f"c{number}")
    assert "support-bot@2" not in {body["model"] for body in second.bodies}
    assert "support-bot@2" in {body["model"] for body in first.bodies}
    second.thaw_warm_ups.set()


async def test_a_champion_that_no_replica_can_load_leaves_the_last_good_one_in_its_place_and_alerts(
    house: House, fleet: Fleet
) -> None:
    for fake in fleet.replicas:
        fake.unloadable.add("support-bot@2")
    async with constant_load(house) as outcome:
        await serve(house, champion=2, previous=1, generation=2)
        await gauge_is(UNAVAILABLE, 1, served="support-bot@2")
        assert await ask(house) == "support-bot@1"
        with pytest.raises(openai.InternalServerError) as refused:
            await ask(house, model="support-bot@2")
        assert refused.value.status_code == 503
        assert "rank 512" in refused.value.message
        for fake in fleet.replicas:
            fake.unloadable.clear()
        await eventually(lambda: _answers(house, "support-bot@2"))
        await gauge_is(UNAVAILABLE, 0, served="support-bot@2")
    assert (outcome.refused, outcome.broken) == ([], [])
    await gauge_is(UNAVAILABLE, None, served="support-bot@1")  # not served any more


async def test_a_candidate_that_no_replica_can_load_gets_no_share(house: House, fleet: Fleet) -> None:
    for fake in fleet.replicas:
        fake.unloadable.add("support-bot@2")
    await serve(house, candidate=2, share=1.0, generation=2)
    await gauge_is(UNAVAILABLE, 1, served="support-bot@2")
    assert {await ask(house, f"c{number}") for number in range(5)} == {"support-bot@1"}
    for fake in fleet.replicas:
        fake.unloadable.clear()
    await eventually(lambda: _answers(house, "support-bot@2"))
    assert {await ask(house, f"c{number}") for number in range(5)} == {"support-bot@2"}


async def test_a_version_is_not_asked_of_the_replica_that_cannot_load_it(house: House, fleet: Fleet) -> None:
    able, unable = fleet.replicas
    unable.unloadable.add("support-bot@2")
    await serve(house, champion=2, previous=1, generation=2)
    await eventually(lambda: _answers(house, "support-bot@2"))
    for number in range(10):
        await ask(house, f"c{number}")
    assert "support-bot@2" not in {body["model"] for body in unable.bodies}
    assert sum(body["model"] == "support-bot@2" for body in able.bodies) >= 10
    assert sample(UNAVAILABLE, served="support-bot@2") == 0


async def test_a_replica_that_was_away_loads_everything_again_before_it_gets_traffic(
    house: House, fleet: Fleet
) -> None:
    coming = fleet.replicas[0]
    await coming.kill()
    await gauge_is("onggi_gateway_replica_up", 0, replica=coming.host)
    again = await fleet.start(coming.host)  # at the same address, as a container that is restarted
    again.thaw_warm_ups.clear()
    await gauge_is("onggi_gateway_replica_up", 1, replica=coming.host)
    await until(lambda: again.warmed == ["support-bot@1"])
    for number in range(6):
        await ask(house, f"c{number}")
    assert not again.bodies
    again.thaw_warm_ups.set()
    await eventually(lambda: _reaches(house, again))


async def test_a_version_is_loaded_only_where_its_base_is(house: House, fleet: Fleet) -> None:
    other = await fleet.join("127.0.0.3", models=[listed("other-base")])
    async with house.database.session() as session:
        owner = (await session.get_one(Bot, "support-bot")).person_id
        session.add(Bot(name="other-bot", person_id=owner, base="other-base", champion=1))
        await session.flush()
        tags: dict[str, Any] = {"revision": "r", "rank": 8, "sha256": "s"}
        session.add(Version(bot="other-bot", number=1, person_id=owner, base="other-base", **tags))
    await eventually(lambda: _answers(house, "other-bot@1", "other-bot"))
    assert other.warmed == ["other-bot@1"]
    assert {body["model"] for body in other.bodies} == {"other-bot@1"}
    assert all(fake.warmed == ["support-bot@1"] for fake in fleet.replicas[:2])
    assert await ask(house, model=BASE) == BASE


async def _answers(house: House, version: str, model: str = "support-bot") -> bool:
    return await ask(house, model=model) == version


async def _reaches(house: House, fake: Any) -> bool:
    for number in range(6):
        await ask(house, f"c{number}")
    return bool(fake.bodies)
