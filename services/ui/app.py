"""The web UI as one ASGI app: the door, static files, and the chat page by Gradio."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import gradio as gr
from fastapi import FastAPI, Response
from fastapi.staticfiles import StaticFiles

from common import metrics
from common.asgi import Observed
from services.ui import page, visitors
from services.ui.api import Api
from services.ui.chat import Chat
from services.ui.compare import Compare
from services.ui.settings import UiSettings


def create_app(settings: UiSettings) -> FastAPI:
    """The app; it connects when it is started."""
    api = Api(settings.gateway_url, settings.control_url)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await api.open()
        yield
        await api.close()

    app = FastAPI(title="Onggi UI", lifespan=lifespan, openapi_url=None)
    app.state.api = api
    app.add_api_route("/health", _health)
    if settings.metrics_port is None:
        app.add_api_route("/metrics", _metrics)
    app.include_router(visitors.router)
    app.mount("/look", StaticFiles(directory=page.LOOK))
    _mount_chat(app, page.build(Chat(api), Compare(api)))
    app.add_middleware(visitors.Door, api=api)
    app.add_middleware(Observed, component="ui")
    return app


def _mount_chat(app: FastAPI, blocks: gr.Blocks) -> None:
    blocks.queue(default_concurrency_limit=None, api_open=False)
    gr.mount_gradio_app(
        app, blocks, path="/", theme=page.theme(), css_paths=page.CSS, head_paths=page.HEAD,
        footer_links=[], ssr_mode=False, favicon_path=page.LOOK / "jar.svg", show_error=False,
        run_history=False, enable_monitoring=False,
    )  # fmt: skip


async def _health() -> dict[str, Any]:
    return {"status": "ok"}


async def _metrics() -> Response:
    content, media_type = metrics.exposition()
    return Response(content, headers={"Content-Type": media_type})
