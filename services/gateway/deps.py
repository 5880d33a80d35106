"""The gateway's parts, and how a route gets at them."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from common.openai_errors import OpenAIError
from services.database.credentials import Caller
from services.database.engine import Database
from services.gateway.callers import Callers
from services.gateway.ledger import Ledger
from services.gateway.served import Served
from services.gateway.settings import GatewaySettings
from services.gateway.shadow import Shadows
from services.gateway.traffic import Traffic
from services.gateway.upstream import Upstream


@dataclass(frozen=True)
class Gateway:
    """What one gateway process consists of; ``id`` marks the rows that it holds open."""

    id: str
    settings: GatewaySettings
    database: Database
    upstream: Upstream
    served: Served
    ledger: Ledger
    callers: Callers
    traffic: Traffic
    shadows: Shadows


def _gateway(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway


async def _caller(request: Request) -> Caller:
    return await _gateway(request).callers.identify(request.headers.get("authorization"))


GatewayDep = Annotated[Gateway, Depends(_gateway)]
CallerDep = Annotated[Caller, Depends(_caller)]


async def _owner(caller: CallerDep) -> Caller:
    if not caller.is_owner:
        raise OpenAIError(403, "Only an owner may do this.", code="owner_only")
    return caller


OwnerDep = Annotated[Caller, Depends(_owner)]
