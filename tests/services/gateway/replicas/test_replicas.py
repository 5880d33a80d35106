"""Requests among replicas: which one gets them, and what a failing one does to them (nothing)."""

import asyncio
import json
from datetime import timedelta
from random import Random

import aiohttp
import openai
import pytest

from services.database.queries import trainings
from services.database.tables import Training, now
from tests.services.gateway.conftest import House, eventually
from tests.services.gateway.fake_upstream import BASE, BROKEN, DONE, FakeUpstream, chunk, listed, usage, whole
from tests.services.gateway.replicas.fleet import NAME, Fleet, constant_load, gauge_is, sample, until

ASK = {"model": "support-bot", "messages": [{"role": "user", "content": "Hello"}]}
UP = "onggi_gateway_replica_up"
IN_FLIGHT = "onggi_gateway_replica_requests_in_flight"
ID = "chatcmpl-0123456789abcdef0123"
# A stream that is under way long enough for something to happen to its replica.
SLOW = [chunk(ID, "a"), 0.15, chunk(ID, "b"), usage(ID), DONE]


async def ask(house: House, conversation: str = "c", **more: object) -> str:
    answer = await house.client().chat.completions.create(
        **{**ASK, "metadata": {"conversation_id": conversation}, **more}
    )
    return str(answer.choices[0].message.content)


async def raw_stream(house: House, **more: object) -> bytes:
    """The bytes of a streamed answer."""
    async with (
        aiohttp.ClientSession(headers={"authorization": f"Bearer {house.key}"}) as session,
        session.post(f"{house.url}/v1/chat/completions", json={**ASK, "stream": True, **more}) as answer,
    ):
        return await answer.read()


@pytest.mark.parametrize("fleet", [3], indirect=True)
async def test_a_conversation_stays_at_one_replica_and_conversations_are_spread(
    house: House, fleet: Fleet
) -> None:
    for conversation in range(12):
        before = fleet.asked()
        for _ in range(3):
            await ask(house, f"conversation-{conversation}")
        assert sorted(after - first for first, after in zip(before, fleet.asked(), strict=True)) == [0, 0, 3]
    assert all(fleet.asked())


async def test_a_busy_replica_is_left_to_those_that_are_there_and_the_quieter_one_is_asked(
    house: House, fleet: Fleet
) -> None:
    for fake in fleet.replicas:
        fake.script = SLOW
    await asyncio.gather(*(raw_stream(house, metadata={"conversation_id": "one"}) for _ in range(10)))
    assert min(fleet.asked()) >= 3


async def test_the_name_is_what_the_replicas_are_called_by(house: House, fleet: Fleet) -> None:
    await ask(house)
    [sent] = [headers for fake in fleet.replicas for headers in fake.headers]
    assert sent["host"] == f"{NAME}:{fleet.port}"


async def test_a_replica_that_refuses_connections_costs_no_request(house: House, fleet: Fleet) -> None:
    fleet.names.addresses.append("127.0.0.9")  # in DNS, and nobody there
    await fleet.replicas[0].kill()
    for number in range(20):
        assert await ask(house, f"c{number}") == "Hello."
    assert fleet.asked()[1] == 20
    await gauge_is(UP, 0, replica="127.0.0.1")


@pytest.mark.parametrize("fleet", [1, 2], indirect=True)
async def test_a_kept_connection_that_the_server_closed_is_tried_anew(house: House, fleet: Fleet) -> None:
    await ask(house)
    for fake in fleet.replicas:
        fake.drops = 1
    assert await ask(house) == "Hello."
    assert b"Hel" in await raw_stream(house)


async def test_a_gateway_error_of_one_replica_is_answered_by_another(house: House, fleet: Fleet) -> None:
    for number, status in enumerate([502, 503, 504] * 3):
        fleet.replicas[0].refusal = (status, "", {})
        assert await ask(house, f"c{number}") == "Hello."
    assert fleet.replicas[0].bodies
    await gauge_is(IN_FLIGHT, 0, replica="127.0.0.1")


async def test_when_all_fail_the_caller_gets_their_words_after_each_was_asked_once(
    house: House, fleet: Fleet
) -> None:
    for fake in fleet.replicas:
        fake.refusal = (503, {"error": {"message": "no memory"}}, {})
    with pytest.raises(openai.InternalServerError) as refused:
        await ask(house)
    assert refused.value.status_code == 503
    assert "no memory" in refused.value.message
    assert fleet.asked() == [1, 1]


async def test_what_is_about_the_request_is_never_asked_twice(house: House, fleet: Fleet) -> None:
    for number, status in enumerate([400, 404, 422, 429, 500]):
        for fake in fleet.replicas:
            fake.refusal = (status, {"error": {"message": "no"}}, {})
        with pytest.raises(openai.APIStatusError):
            await ask(house)
        assert sum(fleet.asked()) == number + 1


ABORTED = chunk(ID, "", finish="abort")
DEAD = b'data: {"error": {"message": "EngineCore encountered an issue.", "code": 500}}\n\n'


async def test_a_stream_that_ends_before_its_first_word_is_asked_of_another(
    house: House, fleet: Fleet
) -> None:
    failing = fleet.replicas[0]
    for script in ([BROKEN], [chunk(ID), BROKEN], [chunk(ID)], [chunk(ID), 0.02, ABORTED, DONE], [DEAD]):
        failing.script, asked, number = script, len(failing.bodies), 0
        while len(failing.bodies) == asked:  # its breaker may be open since the last script
            number += 1
            answer = await raw_stream(house, metadata={"conversation_id": f"c{number}"})
            assert b"Hel" in answer
            assert answer.endswith(DONE)


async def test_a_whole_answer_that_is_aborted_is_asked_of_another(house: House, fleet: Fleet) -> None:
    aborted = whole(ID, "")
    aborted["choices"][0]["finish_reason"] = "abort"
    fleet.replicas[0].reply = aborted
    assert {await ask(house, f"c{number}") for number in range(6)} == {"Hello."}
    assert fleet.replicas[0].bodies


async def test_after_the_first_word_nothing_is_asked_again_and_the_stream_says_that_it_broke(
    house: House, fleet: Fleet
) -> None:
    for number, ending in enumerate([BROKEN, ABORTED, DEAD]):
        for fake in fleet.replicas:
            fake.script = [chunk(ID, "Hel"), 0.02, ending]
        *events, last, nothing = (await raw_stream(house)).split(b"\n\n")
        assert [event + b"\n\n" for event in events] == [chunk(ID, "Hel")]
        assert json.loads(last.removeprefix(b"data: "))["error"]["type"] == "server_error"
        assert nothing == b""
        assert sum(fleet.asked()) == number + 1


@pytest.mark.parametrize("fleet", [3], indirect=True)
async def test_replicas_come_and_go_under_load_and_no_request_fails(house: House, fleet: Fleet) -> None:
    for fake in fleet.replicas:
        fake.script = SLOW
    first, second, _ = fleet.replicas
    async with constant_load(house) as outcome:
        await until(lambda: outcome.whole >= 12)
        # One leaves as a pod does: out of DNS, its streams end, it closes its connections and is gone.
        fleet.names.addresses.remove(first.host)
        await gauge_is(UP, None, replica=first.host)
        await until(lambda: not first.open_streams)
        asked = len(first.bodies)
        await first.kill()
        # One comes.
        fourth = await fleet.join("127.0.0.4", script=SLOW)
        await until(lambda: len(fourth.bodies) > 3)
        # One says itself that it is going, while DNS still has it.
        second.health = 503
        await gauge_is(UP, 0, replica=second.host)
        await gauge_is(IN_FLIGHT, 0, replica=second.host)
        drained = len(second.bodies)
        before = outcome.whole
        await until(lambda: outcome.whole >= before + 12)
        assert (len(first.bodies), len(second.bodies)) == (asked, drained)
        second.health = 200
        await until(lambda: len(second.bodies) > drained)
        # DNS goes: what it said last stands.
        fleet.names.away = True
        before = outcome.whole
        await until(lambda: outcome.whole >= before + 12)
    assert (outcome.refused, outcome.broken) == ([], [])


async def test_a_replica_that_is_killed_breaks_its_own_streams_aloud_and_no_request_is_refused(
    house: House, fleet: Fleet
) -> None:
    for fake in fleet.replicas:
        fake.script = SLOW
    async with constant_load(house) as outcome:
        await until(lambda: outcome.whole >= 6 and fleet.replicas[0].open_streams > 0)
        under_way = fleet.replicas[0].open_streams
        await fleet.replicas[0].kill()
        before = outcome.whole
        await until(lambda: outcome.whole >= before + 12)
    assert outcome.refused == []
    assert len(outcome.broken) <= under_way
    assert all('"server_error"' in text and "[DONE]" not in text for text in outcome.broken)


async def test_what_waits_at_a_replica_that_hangs_is_asked_of_another(house: House, fleet: Fleet) -> None:
    hanging = fleet.replicas[0]
    async with constant_load(house) as outcome:
        await until(lambda: outcome.whole >= 12)
        hanging.thawed.clear()
        await until(lambda: (sample(IN_FLIGHT, replica=hanging.host) or 0) > 0)
        await gauge_is(UP, 0, replica=hanging.host)
        await gauge_is(IN_FLIGHT, 0, replica=hanging.host)
        before = outcome.whole
        await until(lambda: outcome.whole >= before + 12)
        hanging.thawed.set()
        await gauge_is(UP, 1, replica=hanging.host)
        asked = len(hanging.bodies)
        await until(lambda: len(hanging.bodies) > asked)
    assert (outcome.refused, outcome.broken) == ([], [])


@pytest.mark.parametrize("fleet", [1], indirect=True)
async def test_a_replica_that_starts_slowly_gets_no_request_before_it_answers_and_is_warm(
    house: House, fleet: Fleet
) -> None:
    async with constant_load(house) as outcome:
        starting = await fleet.start("127.0.0.2")
        starting.thawed.clear()
        fleet.names.addresses.append(starting.host)
        await until(lambda: outcome.whole >= 24)
        assert not starting.bodies
        starting.thawed.set()
        await until(lambda: bool(starting.bodies))
        assert starting.warmed == ["support-bot@1"]
    assert (outcome.refused, outcome.broken) == ([], [])


async def test_a_breaker_keeps_requests_from_a_replica_until_a_probe_finds_it_well(
    house: House, fleet: Fleet
) -> None:
    failing = fleet.replicas[0]
    failing.refusal = (503, "", {})  # its /health says that all is well
    for number in range(30):
        await ask(house, f"c{number}")
    tried = len(failing.bodies)
    assert 3 <= tried < 15
    failing.refusal = None
    await eventually(lambda: _asked_again(house, failing, tried))


async def _asked_again(house: House, fake: FakeUpstream, before: int) -> bool:
    await asyncio.gather(*(ask(house, f"again-{number}") for number in range(8)))
    return len(fake.bodies) > before + 3


async def test_each_base_is_asked_of_the_replicas_that_have_it(house: House, fleet: Fleet) -> None:
    fleet.replicas[1].models = [listed("other-base")]
    await eventually(lambda: _lists(house, "other-base"))
    before = fleet.asked()
    for number in range(4):
        await ask(house, f"c{number}")  # support-bot@1 is of the first base
        await ask(house, f"c{number}", model=BASE)
        await ask(house, f"c{number}", model="other-base")
    assert [after - first for first, after in zip(before, fleet.asked(), strict=True)] == [8, 4]


async def test_only_vllm_is_asked_for_its_health_which_costs_others_an_answer_of_every_model(
    house: House, fleet: Fleet
) -> None:
    other = await fleet.join("127.0.0.3", models=[{"id": "other-base", "object": "model"}], health=500)
    await eventually(lambda: _lists(house, "other-base"))
    assert await ask(house, model="other-base") == "Hello."
    assert fleet.replicas[0].asked_health
    assert not other.asked_health


async def _lists(house: House, name: str) -> bool:
    return name in {model.id async for model in house.client().models.list()}


async def test_without_a_replica_of_its_base_a_request_is_told_when_to_come_back(
    house: House, fleet: Fleet
) -> None:
    fleet.replicas[1].models = [listed("other-base")]
    await eventually(lambda: _lists(house, "other-base"))
    fleet.replicas[1].refusal = (404, {"error": {"message": "no such model"}}, {})
    fleet.names.addresses.remove(fleet.replicas[0].host)
    await until(lambda: sample(UP, replica=fleet.replicas[0].host) is None)
    for model in ("support-bot", "support-bot@2", BASE):
        refused = await refusal(house, model)
        assert (refused.status_code, refused.response.headers["retry-after"]) == (503, "5")
        assert BASE in refused.message
    async with house.database.session() as session:
        await trainings.replace(session, [Training(job_id="ftjob-1", until=now() + timedelta(minutes=12))])
    await eventually(lambda: _is_told(house))
    fleet.names.addresses.clear()
    await eventually(lambda: _is_told(house))


async def refusal(house: House, model: str) -> openai.APIStatusError:
    with pytest.raises(openai.InternalServerError) as refused:
        await ask(house, model=model)
    return refused.value


async def _is_told(house: House) -> bool:
    refused = await refusal(house, "support-bot")
    return "fine-tune" in refused.message and 600 < int(refused.response.headers["retry-after"]) <= 722


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("fleet", [3], indirect=True)
async def test_replicas_come_and_go_many_times_and_no_request_fails(
    house: House, fleet: Fleet, seed: int
) -> None:
    random = Random(seed)
    async with constant_load(house, workers=12) as outcome:
        for number in range(40):
            there = [fake for fake in fleet.replicas if fake.host in fleet.names.addresses]
            one = random.choice(there)
            kind = random.choice(["leave", "drain", "refuse", "drop", "hang"] if len(there) > 2 else ["join"])
            if kind == "join":
                await fleet.join(f"127.0.1.{number + 1}", script=SLOW)
            elif kind == "leave":
                fleet.names.addresses.remove(one.host)
                await gauge_is(UP, None, replica=one.host)
                await until(lambda one=one: not one.open_streams)
                await one.kill()
            elif kind == "drain":
                one.health = 503
                await gauge_is(UP, 0, replica=one.host)
                one.health = 200
            elif kind == "refuse":
                one.refusal = (random.choice([502, 503, 504]), "", {})
                await asyncio.sleep(random.random() / 2)
                one.refusal = None
            elif kind == "drop":
                one.drops = random.randrange(1, 4)
                await until(lambda one=one: not one.drops)
            else:
                one.thawed.clear()
                await gauge_is(UP, 0, replica=one.host)
                one.thawed.set()
            # One fault at a time is what is promised.
            for host in fleet.names.addresses:
                await gauge_is(UP, 1, replica=host)
            await asyncio.sleep(random.random() / 5)
    assert (outcome.refused, outcome.broken) == ([], [])
    assert outcome.whole > 200
