"""Models, stored completions, callers, health, and what is not there, through the official SDK."""

import aiohttp
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import update

from services.database.credentials import issue_session
from services.database.tables import Bot, Key, Person, Version, now
from services.gateway import callers
from services.gateway.routes.absent import ABSENT
from tests.services.gateway.conftest import SECRET, House, both_databases, eventually, listening
from tests.services.gateway.fake_upstream import BASE

ASK = {"model": "support-bot", "messages": [{"role": "user", "content": "Hello"}]}


@both_databases
async def test_the_list_holds_bases_bots_and_versions_that_are_not_retired(house: House) -> None:
    house.upstream.models.append({"id": "support-bot@1", "object": "model", "parent": BASE})
    listed = {model.id async for model in house.client().models.list()}
    assert listed == {BASE, "support-bot", "new-bot", "support-bot@1", "support-bot@2"}


async def test_a_model_is_found_by_its_name_and_an_unknown_one_is_a_404(house: House) -> None:
    client = house.client()
    assert (await client.models.retrieve(BASE)).created == 5
    assert (await client.models.retrieve("support-bot@2")).owned_by == "onggi"
    for name in ("support-bot@3", "nobody"):
        with pytest.raises(openai.NotFoundError) as refused:
            await client.models.retrieve(name)
        assert refused.value.code == "model_not_found"


async def test_models_of_a_hosted_upstream_with_slashes_in_their_names_are_found(house: House) -> None:
    house.upstream.models.append({"id": "org/model", "object": "model"})
    async with (
        aiohttp.ClientSession(headers={"authorization": f"Bearer {house.key}"}) as session,
        session.get(f"{house.url}/v1/models/org/model") as answer,
    ):
        assert (await answer.json())["id"] == "org/model"
    assert await _lists(house, "org/model")


async def _lists(house: House, name: str) -> bool:
    return name in {model.id async for model in house.client().models.list()}


@both_databases
async def test_an_owner_retires_a_version_and_its_name_is_unknown_at_once(house: House) -> None:
    client = house.client()
    assert (await client.models.delete("support-bot@2")).deleted
    with pytest.raises(openai.NotFoundError):
        await client.chat.completions.create(**{**ASK, "model": "support-bot@2"})
    with pytest.raises(openai.NotFoundError):
        await client.models.delete("support-bot@2")
    async with house.database.session() as session:
        assert (await session.get_one(Version, ("support-bot", 2))).state == "retired"


async def test_what_serves_cannot_be_retired_and_only_owners_retire(house: House) -> None:
    async with house.database.session() as session:
        await session.execute(update(Bot).where(Bot.name == "support-bot").values(candidate=2, share=0.1))
    for name in ("support-bot@1", "support-bot@2"):
        with pytest.raises(openai.ConflictError):
            await house.client().models.delete(name)
    with pytest.raises(openai.PermissionDeniedError):
        await house.client(house.member_key).models.delete("support-bot@2")
    for name in ("support-bot", BASE):
        with pytest.raises(openai.BadRequestError):
            await house.client().models.delete(name)


@both_databases
async def test_stored_completions_are_listed_read_changed_and_deleted_like_openais(house: House) -> None:
    client = house.client()
    made = [
        await client.chat.completions.create(**ASK, store=True, metadata={"topic": topic})
        for topic in ("a", "b", "a")
    ]
    await client.chat.completions.create(**ASK)
    store = client.chat.completions
    assert [each.id async for each in store.list()] == [each.id for each in made]
    assert [each.id async for each in store.list(order="desc", limit=1)] == [
        each.id for each in reversed(made)
    ]
    assert [each.id async for each in store.list(metadata={"topic": "a"})] == [made[0].id, made[2].id]
    assert [each.id async for each in store.list(model="new-bot")] == []
    got = await store.retrieve(made[0].id)
    assert (got.model, got.choices[0].message.content, got.usage.total_tokens) == (
        "support-bot@1",
        "Hello.",
        10,
    )
    messages = [each async for each in store.messages.list(made[0].id)]
    assert [(each.id, each.role, each.content) for each in messages] == [(f"{made[0].id}-0", "user", "Hello")]
    changed = await store.update(made[0].id, metadata={"topic": "c"})
    assert changed.metadata == {"topic": "c"}
    assert (await store.delete(made[0].id)).deleted
    with pytest.raises(openai.NotFoundError):
        await store.retrieve(made[0].id)
    row = await house.row(id=made[0].id)
    assert (row.messages, row.answer, row.request, row.completion_tokens) == (None, None, None, 3)


async def test_a_member_sees_own_rows_and_an_owner_all(house: House) -> None:
    owner, member = house.client(), house.client(house.member_key)
    owners = await owner.chat.completions.create(**ASK, store=True)
    members = await member.chat.completions.create(**ASK, store=True)
    assert [each.id async for each in member.chat.completions.list()] == [members.id]
    assert {each.id async for each in owner.chat.completions.list()} == {owners.id, members.id}
    with pytest.raises(openai.NotFoundError):
        await member.chat.completions.retrieve(owners.id)
    with pytest.raises(openai.NotFoundError):
        await member.chat.completions.delete(owners.id)


async def test_a_keys_default_stores_and_the_caller_may_say_no(house: House) -> None:
    async with house.database.session() as session:
        await session.execute(update(Key).values(store_default=True))
    await house.client().chat.completions.create(**ASK)
    await house.client().chat.completions.create(**ASK, store=False)
    assert [row.stored for row in await house.rows()] == [True, False]


async def test_nobody_gets_in_without_a_credential(house: House) -> None:
    for key in ("sk-onggi-wrong", "ey.not.jwt"):
        with pytest.raises(openai.AuthenticationError) as refused:
            await house.client(key).chat.completions.create(**ASK)
        assert refused.value.code == "invalid_api_key"
    async with aiohttp.ClientSession() as session:
        for method, path in (
            ("POST", "/v1/chat/completions"),
            ("POST", "/v1/completions"),
            ("GET", "/v1/models"),
            ("GET", "/v1/chat/completions"),
            ("DELETE", "/v1/models/support-bot@2"),
        ):
            async with session.request(method, house.url + path) as answer:
                assert answer.status == 401, path
                assert (await answer.json())["error"]["type"] == "authentication_error"


async def test_a_revoked_key_stops_working_within_the_time_that_it_is_remembered(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "REMEMBERED_SECONDS", 0.2)
    client = house.client(house.member_key)
    await client.models.list()
    async with house.database.session() as session:
        await session.execute(update(Key).values(revoked_at=now()))

    async def refused() -> bool:
        try:
            await client.models.list()
        except openai.AuthenticationError:
            return True
        return False

    await eventually(refused, 1.0)


async def test_a_session_token_is_its_person_and_stores_by_default(house: House) -> None:
    async with house.database.session() as session:
        person = await session.get_one(Person, (await session.get_one(Bot, "new-bot")).person_id)
    await house.client(issue_session(person, SECRET)).chat.completions.create(**ASK)
    row = await house.row()
    assert (row.person_id, row.key_id, row.stored) == (person.id, None, True)


async def test_without_authentication_everybody_is_the_first_owner(house: House) -> None:
    async with (
        listening(house.settings.model_copy(update={"enable_auth": False})) as url,
        aiohttp.ClientSession() as session,
        session.post(f"{url}/v1/chat/completions", json=ASK) as answer,
    ):
        assert answer.status == 200
    async with house.database.session() as session:
        assert (await house.row()).person_id == (await session.get_one(Bot, "new-bot")).person_id


@pytest.mark.parametrize("name", sorted(ABSENT))
async def test_what_openai_has_and_we_have_not_is_a_404_that_says_so(house: House, name: str) -> None:
    async with aiohttp.ClientSession() as session:
        for method, path in (("POST", f"/v1/{name}"), ("GET", f"/v1/{name}/x/y")):
            async with session.request(method, house.url + path) as answer:
                assert answer.status == 404
                error = (await answer.json())["error"]
                assert (error["code"], error["type"]) == ("unknown_url", "invalid_request_error")
                assert "part of OpenAI's API but not of this one" in error["message"]


async def test_wrong_methods_and_unknown_paths_are_errors_in_openais_shape(house: House) -> None:
    async with aiohttp.ClientSession() as session:
        for method, path, status in (
            ("PUT", "/v1/chat/completions", 405),
            ("GET", "/v1/completions", 405),
            ("GET", "/v1/nothing", 404),
            ("GET", "/v1", 404),
        ):
            async with session.request(method, house.url + path) as answer:
                assert answer.status == status, path
                assert set((await answer.json())["error"]) == {"message", "type", "param", "code"}


async def test_health_readiness_and_metrics_answer_without_a_credential(house: House) -> None:
    await house.client().chat.completions.create(**ASK)
    async with aiohttp.ClientSession() as session:
        for path in ("/health", "/ready"):
            async with session.get(house.url + path) as answer:
                assert answer.status == 200
        async with session.get(f"{house.url}/metrics") as answer:
            page = await answer.text()
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }
    ended = (("arm", "champion"), ("served", "support-bot@1"), ("status", "done"))
    assert samples["onggi_completions_total", ended] >= 1
    written = (("arm", "champion"), ("kind", "completion"), ("served", "support-bot@1"))
    assert samples["onggi_tokens_total", written] >= 3
