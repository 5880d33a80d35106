"""Control: everything of the API but the chat path. One replica."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from common import tracing
from common.asgi import Observed
from common.logging import project_version
from common.openai_errors import install_handlers, respond, unavailable
from common.storage import StorageUnavailable
from services.control import admin, background, erasing
from services.control.context import Control, make_control
from services.control.limits import BodyLimit
from services.control.routes import (
    bots,
    comparisons,
    conversations,
    feedback,
    files,
    fine_tuning,
    keys,
    lineage,
    loop,
    people,
    system,
    versions,
)
from services.control.runner import Runner, RunnerUnavailable
from services.control.settings import ControlSettings
from services.database import credentials
from services.database.away import DATABASE_ERRORS, database_away, is_away
from services.database.upgrade import upgrade

_ROUTES = (
    files,
    fine_tuning,
    bots,
    versions,
    feedback,
    comparisons,
    loop,
    lineage,
    people,
    keys,
    conversations,
    system,
)


def create_app(settings: ControlSettings, runner: Runner | None = None) -> FastAPI:
    """Control's ASGI application; its lifespan migrates the database and makes the first owner.

    ``runner`` runs the fine-tunes; by default the one that the settings name.
    """
    control = make_control(settings, runner)
    app = FastAPI(
        title="Onggi control",
        version=project_version(),
        lifespan=partial(_lifespan, control=control),
        telemetry={
            "tracing": False,
            "metrics": False,
            "logs": False,
        },  # common.asgi does it for every component
    )
    app.state.control = control
    for routes in _ROUTES:
        app.include_router(routes.router)
    admin.mount(app, control)
    install_handlers(app)
    for away in (RunnerUnavailable, StorageUnavailable):
        app.add_exception_handler(away, _unavailable)
    for kind in DATABASE_ERRORS:
        app.add_exception_handler(kind, _database_trouble)
    app.add_middleware(BodyLimit)
    app.add_middleware(Observed, component="control", traced=bool(settings.otel_exporter_otlp_endpoint))
    return app


async def _unavailable(_: Request, error: Exception) -> Response:
    return respond(unavailable(str(error)))


async def _database_trouble(_: Request, error: Exception) -> Response:
    if not is_away(error):
        raise error
    return respond(database_away(error))


@asynccontextmanager
async def _lifespan(_: FastAPI, control: Control) -> AsyncIterator[None]:
    settings = control.settings
    provider = tracing.configure("control", settings.otel_exporter_otlp_endpoint)
    await upgrade(settings.database_url)
    async with control.database.session() as session:
        api_key = settings.api_key.get_secret_value()
        await credentials.ensure_owner(session, settings.admin_username, api_key)
    try:
        await erasing.begin(control)
        async with background.running(control):
            yield
    finally:
        await control.database.close()
        if provider is not None:
            provider.shutdown()
