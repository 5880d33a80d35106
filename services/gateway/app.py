"""The gateway as an ASGI app."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any, cast

from fastapi import FastAPI

from common import tracing
from common.asgi import Observed
from common.logging import project_version
from common.openai_errors import install_handlers
from services.database.engine import Database
from services.database.tables import new_id
from services.gateway.callers import Callers
from services.gateway.deps import Gateway
from services.gateway.endpoint import Resolve, resolve
from services.gateway.ledger import Ledger
from services.gateway.routes import absent, completions, health, models, stored
from services.gateway.served import Served
from services.gateway.settings import GatewaySettings
from services.gateway.shadow import Shadows
from services.gateway.traffic import GoodBye, Traffic
from services.gateway.upstream import Upstream

DOCUMENT = Path(__file__).with_name("openapi.json")


def create_app(settings: GatewaySettings, resolve: Resolve = resolve) -> FastAPI:
    """The gateway; connects to nothing before its lifespan starts. ``app.state.traffic`` is its Traffic."""
    traffic = Traffic()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with _running(_assemble(settings, traffic, resolve)) as app.state.gateway:
            yield

    app = FastAPI(
        title="Onggi",
        version=project_version(),
        lifespan=lifespan,
        # Ours are made by Observed, the same in every component.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.traffic = traffic
    install_handlers(app)
    app.add_middleware(GoodBye, traffic=traffic)
    app.add_middleware(Observed, component="gateway", traced=bool(settings.otel_exporter_otlp_endpoint))
    for module in (completions, models, stored, absent, health):
        app.include_router(module.router)
    app.openapi = _document  # type: ignore[method-assign]
    return app


@cache
def _document() -> dict[str, Any]:
    """Gateway and control in one document, as ``python -m services.openapi`` wrote it."""
    return cast(dict[str, Any], json.loads(DOCUMENT.read_text(encoding="utf-8")))


@asynccontextmanager
async def _running(gateway: Gateway) -> AsyncIterator[Gateway]:
    """Start the parts in order of need, and stop them in reverse."""
    provider = tracing.configure("gateway", gateway.settings.otel_exporter_otlp_endpoint)
    await gateway.upstream.start(gateway.served.open_up)
    await gateway.served.start()
    await gateway.ledger.start()
    try:
        yield gateway
    finally:
        await gateway.shadows.stop()
        await gateway.ledger.stop()
        await gateway.served.stop()
        await gateway.upstream.close()
        await gateway.database.close()
        if provider:
            provider.shutdown()


def _assemble(settings: GatewaySettings, traffic: Traffic, resolve: Resolve) -> Gateway:
    database = Database(settings.database_url)
    upstream = Upstream(
        settings.vllm_base_url,
        settings.upstream_api_key.get_secret_value(),
        retry_after=settings.retry_after_seconds,
        resolve=resolve,
    )
    gateway_id = new_id("gw_")
    served, ledger = Served(database, upstream, settings.default_model), Ledger(database, gateway_id)
    return Gateway(
        id=gateway_id,
        settings=settings,
        database=database,
        upstream=upstream,
        served=served,
        ledger=ledger,
        callers=Callers(
            database, settings.jwt_secret_key.get_secret_value(), enable_auth=settings.enable_auth
        ),
        traffic=traffic,
        shadows=Shadows(served, upstream, ledger, traffic.running),
    )
