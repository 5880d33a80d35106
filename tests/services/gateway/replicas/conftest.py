"""A gateway in front of a Fleet."""

from collections.abc import AsyncIterator

import pytest

from services.database.engine import Database
from services.gateway import breaker, discovery, served
from services.gateway.settings import GatewaySettings
from tests.services.gateway.conftest import SECRET, House, fill, listening
from tests.services.gateway.fake_upstream import BASE
from tests.services.gateway.replicas.fleet import Fleet, fleet_of, gauge_is, until


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that happens every second happens twenty times a second."""
    monkeypatch.setattr(discovery, "RESOLVE_SECONDS", 0.05)
    monkeypatch.setattr(discovery, "PROBE_SECONDS", 0.05)
    monkeypatch.setattr(discovery, "PROBE_TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(discovery, "MODELS_SECONDS", 0.2)
    monkeypatch.setattr(breaker, "LONGEST_PAUSE_SECONDS", 0.5)
    monkeypatch.setattr(served, "POLL_SECONDS", 0.1)


@pytest.fixture
async def fleet(request: pytest.FixtureRequest) -> AsyncIterator[Fleet]:
    async with fleet_of(getattr(request, "param", 2)) as made:
        yield made


@pytest.fixture
async def house(database_url: str, fleet: Fleet) -> AsyncIterator[House]:
    """A gateway in front of the fleet, once every replica has loaded the champion."""
    database = Database(database_url)
    key, member_key = await fill(database)
    settings = GatewaySettings(
        vllm_base_url=fleet.url, database_url=database_url, jwt_secret_key=SECRET, default_model=BASE
    )
    async with listening(settings, resolve=fleet.names.resolve) as url:
        made = House(url, settings, database, fleet.replicas[0], key, member_key)
        await until(lambda: all(fake.warmed for fake in fleet.replicas))
        await gauge_is("onggi_gateway_version_unavailable", 0, served="support-bot@1")
        yield made
        await made.close()
    await database.close()
