"""Gateway and control as one ASGI application on one port: the demo, ``make front`` and tests.

In a cluster the Ingress sends the same paths to two Deployments.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from services.control.app import create_app as create_control
from services.control.settings import ControlSettings
from services.gateway.app import create_app as create_gateway
from services.gateway.settings import GatewaySettings

# The Ingress of charts/onggi routes the same prefixes.
CONTROL_PATHS = ("/v1/files", "/v1/fine_tuning", "/onggi", "/admin")


def create_app(gateway: GatewaySettings, control: ControlSettings) -> "ByPath":
    """Both applications, each with its own lifespan, told apart by path."""
    return ByPath(create_gateway(gateway), create_control(control))


def belongs_to_control(path: str) -> bool:
    """Whether a request for ``path`` is control's."""
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in CONTROL_PATHS)


class ByPath:
    """The two as one ASGI application."""

    def __init__(self, gateway: FastAPI, control: FastAPI) -> None:
        self.gateway = gateway
        self.control = control
        self.lifespans = Starlette(lifespan=self._run_both)

    def leave(self, seconds: float) -> None:
        """The process was told to stop: be unready, and end what still runs after ``seconds``."""
        self.gateway.state.traffic.leave(seconds)

    @asynccontextmanager
    async def _run_both(self, _: Starlette) -> AsyncIterator[None]:
        # Control first: it migrates the database and makes the first owner.
        async with (
            self.control.router.lifespan_context(self.control),
            self.gateway.router.lifespan_context(self.gateway),
        ):
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.lifespans(scope, receive, send)
        elif belongs_to_control(scope["path"]):
            await self.control(scope, receive, send)
        else:
            await self.gateway(scope, receive, send)
