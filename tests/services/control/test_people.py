import asyncio

import pytest

from services.control.settings import ControlSettings
from tests.services.control.conftest import House, serving

both = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)


@both
async def test_an_invite_lets_one_of_two_in_and_their_session_opens_the_api(house: House) -> None:
    invite = await house.post("/onggi/v1/people/invites", {})
    assert (invite["role"], invite["token"][:7]) == ("member", "invite-")
    bodies = [{"token": invite["token"], "name": name} for name in ("Ben", "Cleo")]
    answers = await asyncio.gather(*(house.http.post("/onggi/v1/people/join", json=body) for body in bodies))
    assert sorted(answer.status_code for answer in answers) == [200, 403]
    [joined] = [answer.json() for answer in answers if answer.is_success]
    [refused] = [answer.json()["error"] for answer in answers if not answer.is_success]
    assert refused["code"] == "invalid_invite"
    me = await house.get("/onggi/v1/people/me", key=joined["token"])
    assert me == joined["person"]
    everybody = (await house.get("/onggi/v1/people", key=joined["token"]))["data"]
    assert [person["role"] for person in everybody] == ["owner", "member"]


async def test_a_key_is_shown_once_opens_the_api_and_is_revoked(house: House) -> None:
    made = await house.post("/onggi/v1/keys", {"name": "laptop"})
    assert made["key"].startswith("sk-onggi-")
    assert (made["store_default"], made["name"]) == (False, "laptop")
    assert (await house.get("/onggi/v1/people/me", key=made["key"]))["role"] == "owner"
    listed = (await house.get("/onggi/v1/keys"))["data"]
    assert made["id"] in [key["id"] for key in listed]
    assert not any({"key", "sha256"} & set(key) for key in listed)
    answer = await house.ask("DELETE", f"/onggi/v1/keys/{made['id']}")
    assert answer.json() == {"id": made["id"], "object": "key", "deleted": True}
    status, error = await house.refusal("GET", "/onggi/v1/people/me", key=made["key"])
    assert (status, error["code"]) == (401, "invalid_api_key")


async def test_a_member_makes_keys_for_themselves_only_and_an_owner_for_others(house: House) -> None:
    ben, key = await house.member()
    owner = (await house.get("/onggi/v1/people/me"))["id"]
    status, _ = await house.refusal("POST", "/onggi/v1/keys", json={"name": "k", "person_id": owner}, key=key)
    assert status == 403
    own = await house.post("/onggi/v1/keys", {"name": "own"}, key=key)
    given = await house.post("/onggi/v1/keys", {"name": "given", "person_id": ben, "store_default": True})
    assert {own["person_id"], given["person_id"]} == {ben}
    names = [row["name"] for row in (await house.get("/onggi/v1/keys", key=key))["data"]]
    assert names == ["test", "own", "given"]
    owners_key = (await house.get("/onggi/v1/keys"))["data"][0]["id"]
    status, _ = await house.refusal("DELETE", f"/onggi/v1/keys/{owners_key}", key=key)
    assert status == 404
    status, _ = await house.refusal("POST", "/onggi/v1/keys", json={"name": "k", "person_id": "person_x"})
    assert status == 404


async def test_a_member_invites_nobody(house: House) -> None:
    _, key = await house.member()
    status, error = await house.refusal("POST", "/onggi/v1/people/invites", json={"role": "owner"}, key=key)
    assert (status, error["type"]) == (403, "permission_error")


@pytest.mark.parametrize("header", [None, "Bearer", "Basic YTpi", "Bearer sk-onggi-wrong", "Bearer a.b.c"])
async def test_without_a_valid_credential_there_is_a_401_in_openais_shape(
    house: House, header: str | None
) -> None:
    headers = {"Authorization": header} if header else {}
    answer = await house.http.get("/onggi/v1/bots", headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"


async def test_with_authentication_off_everybody_is_the_first_owner(settings: ControlSettings, root) -> None:
    async with serving(settings.model_copy(update={"enable_auth": False}), root) as house:
        assert (await house.http.get("/onggi/v1/people/me")).json()["name"] == "ada"
