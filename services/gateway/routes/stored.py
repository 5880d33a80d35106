"""Stored completions: list, read, change the metadata of, and delete what was asked with ``store: true``."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request

from common.openai_errors import not_found
from services.database.away import needs_database
from services.database.credentials import Caller
from services.database.queries import stored as queries
from services.database.tables import Completion
from services.gateway.deps import CallerDep, GatewayDep
from services.gateway.requests import read_body, read_metadata_update

router = APIRouter(prefix="/v1/chat/completions", tags=["stored completions"])

Limit = Annotated[int, Query(ge=1, le=100)]
Order = Literal["asc", "desc"]


@router.get("")
async def list_stored(
    request: Request,
    gateway: GatewayDep,
    caller: CallerDep,
    after: str | None = None,
    limit: Limit = 20,
    order: Order = "asc",
    model: str | None = None,
) -> dict[str, Any]:
    """List the caller's stored completions, or everybody's for an owner; filter by model and metadata."""
    wanted = queries.Page(_whose(caller), after, limit, order, model, _metadata_filter(request))
    with _known():
        async with gateway.database.read() as session:
            rows, more = await queries.page(session, wanted)
    return _listed([_completion(row) for row in rows], more)


@router.get("/{id}")
async def retrieve_stored(id: str, gateway: GatewayDep, caller: CallerDep) -> dict[str, Any]:
    """One stored completion."""
    with _known():
        async with gateway.database.read() as session:
            return _completion(await queries.get(session, id, _whose(caller)))


@router.get("/{id}/messages")
async def list_stored_messages(
    id: str,
    gateway: GatewayDep,
    caller: CallerDep,
    after: str | None = None,
    limit: Limit = 20,
    order: Order = "asc",
) -> dict[str, Any]:
    """The messages that a stored completion answered, as they were sent to the model."""
    with _known():
        async with gateway.database.read() as session:
            row = await queries.get(session, id, _whose(caller))
    messages = [{**message, "id": f"{row.id}-{place}"} for place, message in enumerate(row.messages or ())]
    if order == "desc":
        messages.reverse()
    seen = next((place + 1 for place, message in enumerate(messages) if message["id"] == after), 0)
    rest = messages[seen:]
    return _listed(rest[:limit], len(rest) > limit)


@router.post("/{id}")
async def update_stored(id: str, request: Request, gateway: GatewayDep, caller: CallerDep) -> dict[str, Any]:
    """Replace a stored completion's metadata."""
    metadata = read_metadata_update(await read_body(request))
    with _known():
        async with gateway.database.session() as session:
            return _completion(await queries.set_metadata(session, id, _whose(caller), metadata))


@router.delete("/{id}")
async def delete_stored(id: str, gateway: GatewayDep, caller: CallerDep) -> dict[str, Any]:
    """Delete a stored completion's text; its usage stays on record."""
    with _known():
        async with gateway.database.session() as session:
            await queries.forget(session, id, _whose(caller))
    return {"id": id, "object": "chat.completion.deleted", "deleted": True}


@contextmanager
def _known() -> Iterator[None]:
    """A missing row is a 404, a database that is away a 503."""
    try:
        with needs_database():
            yield
    except LookupError as error:
        raise not_found(
            f"There is no stored completion {error.args[0][:100]!r}: only those asked with store: true "
            "are kept.",
            code="not_found",
        ) from None


def _whose(caller: Caller) -> str | None:
    return None if caller.is_owner else caller.person_id


def _metadata_filter(request: Request) -> dict[str, str]:
    """OpenAI's ``metadata[key]=value`` parameters."""
    items = request.query_params.items()
    return {name[9:-1]: value for name, value in items if name.startswith("metadata[") and name.endswith("]")}


def _completion(row: Completion) -> dict[str, Any]:
    """A row as OpenAI's chat.completion object."""
    prompt, completion = row.prompt_tokens or 0, row.completion_tokens or 0
    told = row.request or {}
    return {
        "id": row.id,
        "object": "chat.completion",
        "created": int(row.created_at.timestamp()),
        "model": row.model if row.version is None else f"{row.bot}@{row.version}",
        "choices": (row.answer or {}).get("choices", []),
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        },
        "metadata": told.get("metadata") or {},
        "service_tier": told.get("service_tier") or "default",
    }


def _listed(data: list[dict[str, Any]], more: bool) -> dict[str, Any]:
    ids = [each["id"] for each in data]
    return {
        "object": "list",
        "data": data,
        "first_id": ids[0] if ids else None,
        "last_id": ids[-1] if ids else None,
        "has_more": more,
    }
