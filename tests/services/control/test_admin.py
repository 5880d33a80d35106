import httpx
import pytest

from services.control import admin
from services.control.runner import RetrainRun
from services.database.queries import bots
from services.database.tables import Person
from tests.services.control.conftest import House


async def _log_in(house: House, password: str = "a password") -> httpx.Response:
    return await house.http.post("/admin/login", data={"username": "ada", "password": password})


async def test_the_pages_open_after_login_only_and_show_no_secret(house: House) -> None:
    made = await house.post("/onggi/v1/keys", {"name": "laptop"})
    for page in ("/admin/", "/admin/key/list", "/admin/person/list"):
        answer = await house.http.get(page)
        assert (answer.status_code, answer.headers["location"].endswith("/admin/login")) == (302, True)
    assert (await _log_in(house)).status_code == 302
    identities = [view.identity for view in admin.VIEWS]
    for identity in identities:
        answer = await house.http.get(f"/admin/{identity}/list")
        assert answer.status_code == 200, identity
    keys = (await house.http.get("/admin/key/list")).text
    details = (await house.http.get(f"/admin/key/details/{made['id']}")).text
    assert "laptop" in keys
    assert "laptop" in details
    for page in (keys, details):
        assert "sha256" not in page.lower()
        assert made["key"] not in page
    await house.http.get("/admin/logout")
    assert (await house.http.get("/admin/key/list")).status_code == 302


async def test_what_is_served_and_said_cannot_be_written_there(house: House) -> None:
    await _log_in(house)
    for view in admin.VIEWS:
        assert not view.can_create
        assert not view.can_delete
        assert view.can_edit == (view.model is Person)
        assert (await house.http.get(f"/admin/{view.identity}/create")).status_code == 403
    owner = (await house.get("/onggi/v1/people/me"))["id"]
    assert (await house.http.get("/admin/bot/edit/support-bot")).status_code in (403, 404)
    form = {"name": "Ada Lovelace", "role": "owner", "email": "", "disabled_at": "", "save": "Save"}
    answer = await house.http.post(f"/admin/person/edit/{owner}", data=form)
    assert answer.status_code == 302, answer.text[-800:]
    assert (await house.get("/onggi/v1/people/me"))["name"] == "Ada Lovelace"


async def test_after_five_wrong_passwords_the_right_one_has_to_wait(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(admin.FAILURES):
        assert (await _log_in(house, "wrong")).status_code == 400
    assert (await _log_in(house)).status_code == 400
    monkeypatch.setattr(admin, "WINDOW_SECONDS", 0.0)
    assert (await _log_in(house)).status_code == 302


async def test_a_session_token_is_no_admin_cookie_and_an_admin_cookie_no_token(house: House) -> None:
    invite = await house.post("/onggi/v1/people/invites", {"role": "owner"})
    joined = await house.post("/onggi/v1/people/join", {"token": invite["token"], "name": "Cleo"})
    house.http.cookies.set("onggi_admin", joined["token"])
    assert (await house.http.get("/admin/key/list")).status_code == 302
    house.http.cookies.clear()
    await _log_in(house)
    cookie = house.http.cookies["onggi_admin"]
    status, _ = await house.refusal("GET", "/onggi/v1/people/me", key=cookie)
    assert status == 401


async def test_an_admin_begins_a_retrain_by_a_button_after_login_only(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[RetrainRun] = []
    monkeypatch.setattr(house.control.runner, "retrain", asked.append)
    owner = (await house.get("/onggi/v1/people/me"))["id"]
    async with house.database.session() as session:
        await bots.ensure(session, "support-bot", owner, "SmolLM2", "sha256:1")
    button = "/admin/bot/action/retrain?pks=support-bot"
    assert (await house.http.get(button)).headers["location"].endswith("/admin/login")
    await _log_in(house)
    assert "Retrain" in (await house.http.get("/admin/bot/details/support-bot")).text
    answer = await house.http.get(button)
    assert (answer.status_code, answer.headers["location"].endswith("/admin/retrain/list")) == (303, True)
    assert [(run.bot, run.author, run.force) for run in asked] == [("support-bot", "ada", True)]
    missing = await house.http.get("/admin/bot/action/retrain?pks=nobody")
    assert (missing.status_code, "No bot 'nobody'" in missing.text) == (404, True)
