"""GET /v1/models, GET and DELETE /v1/models/{model}."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter

from common.names import VersionName
from common.openai_errors import OpenAIError, invalid
from services.database.away import needs_database
from services.database.queries import served as queries
from services.gateway.deps import CallerDep, Gateway, GatewayDep, OwnerDep
from services.gateway.served import unknown_model

router = APIRouter(tags=["models"])

Model = dict[str, Any]


@router.get("/v1/models")
async def list_models(gateway: GatewayDep, _: CallerDep) -> dict[str, Any]:
    """List what may be asked for: base models, bots, and every version that is not retired."""
    return {"object": "list", "data": await _bases(gateway) + _ours(gateway)}


@router.get("/v1/models/{model:path}")
async def retrieve_model(model: str, gateway: GatewayDep, _: CallerDep) -> Model:
    """One base model, bot or version."""
    found = await _find(model, gateway)
    if found is None and await gateway.served.refresh():
        found = await _find(model, gateway, fresh=True)
    if found is None:
        raise unknown_model(model)
    return found


@router.delete("/v1/models/{model:path}")
async def retire_model(model: str, gateway: GatewayDep, _: OwnerDep) -> dict[str, Any]:
    """Retire a version (owners only): from now on its name is unknown, and its files go."""
    name = VersionName.parse(model)
    if name is None:
        raise invalid(f"{model[:100]!r} is not a version: name one such as support-bot@7.", "model")
    try:
        with needs_database():
            async with gateway.database.session() as session:
                retired = await queries.retire(session, name.bot, name.number)
    except LookupError:
        raise unknown_model(model) from None
    if not retired:
        raise OpenAIError(
            409,
            f"{name} serves now: promote or withdraw it first, then delete it.",
            "invalid_request_error",
            "model",
        )
    await gateway.served.refresh()
    return {"id": str(name), "object": "model", "deleted": True}


async def _find(model: str, gateway: Gateway, *, fresh: bool = False) -> Model | None:
    ours = next((listed for listed in _ours(gateway) if listed["id"] == model), None)
    return ours or next(
        (listed for listed in await _bases(gateway, fresh=fresh) if listed["id"] == model), None
    )


async def _bases(gateway: Gateway, *, fresh: bool = False) -> list[Model]:
    """The upstream's models; the default one stands in while the upstream has never been seen."""
    try:
        return [_base(listed) for listed in await gateway.upstream.models(fresh=fresh)]
    except OpenAIError:
        default = gateway.settings.default_model
        return [_base({"id": default})] if default else []


def _ours(gateway: Gateway) -> list[Model]:
    snapshot = gateway.served.snapshot
    bots = [_model(bot.name, bot.created_at, bot.base) for bot in snapshot.bots.values()]
    return bots + [_model(str(each.name), each.created_at, each.base) for each in snapshot.versions.values()]


def _base(listed: Model) -> Model:
    return {
        "id": listed.get("id"),
        "object": "model",
        "created": listed.get("created") or 0,
        "owned_by": listed.get("owned_by") or "upstream",
    }


def _model(name: str, created_at: datetime, base: str) -> Model:
    created = int(created_at.timestamp())
    return {"id": name, "object": "model", "created": created, "owned_by": "onggi", "parent": base}
