import pytest

from common.errors import UserError
from common.settings import load
from services.control.settings import ControlSettings
from services.database.engine import Database
from tests.services.control.conftest import House


async def test_health_ready_and_metrics_need_no_key(house: House) -> None:
    assert (await house.http.get("/health")).json() == {"status": "ok"}
    assert (await house.http.get("/ready")).json() == {"status": "ready"}
    page = (await house.http.get("/metrics")).text
    assert 'onggi_http_requests_total{component="control",method="GET",route="/ready",status="200"}' in page


async def test_with_the_database_away_it_is_alive_but_not_ready(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_: Database) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(Database, "ping", away)
    assert (await house.http.get("/health")).status_code == 200
    answer = await house.http.get("/ready")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"


async def test_errors_of_the_framework_have_openais_shape(house: House) -> None:
    for method, path, status in (("GET", "/v1/files/a/b/c", 404), ("PUT", "/v1/files", 405)):
        got, _ = await house.refusal(method, path)
        assert got == status


async def test_the_api_document_lists_every_route(house: House) -> None:
    paths = (await house.http.get("/openapi.json")).json()["paths"]
    assert {"/v1/files", "/v1/fine_tuning/jobs/{job_id}/cancel", "/onggi/v1/bots/{bot}/promote"} <= set(paths)
    assert "multipart/form-data" in paths["/v1/files"]["post"]["requestBody"]["content"]


def test_default_secrets_are_refused_outside_debug(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ADMIN_PASSWORD", "JWT_SECRET_KEY", "CONTROL_TOKEN", "DEBUG"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(
        UserError, match="ADMIN_PASSWORD and JWT_SECRET_KEY and CONTROL_TOKEN are the default"
    ):
        load(ControlSettings)
    monkeypatch.setenv("ADMIN_PASSWORD", "mine")
    monkeypatch.setenv("JWT_SECRET_KEY", "mine as well, and long enough to sign with")
    with pytest.raises(UserError, match="CONTROL_TOKEN is the default: set your own"):
        load(ControlSettings)
    monkeypatch.setenv("DEBUG", "true")
    assert load(ControlSettings).debug
