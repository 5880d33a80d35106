"""/onggi/v1/keys: API keys."""

from typing import Any

from fastapi import APIRouter

from common.openai_errors import OpenAIError, not_found
from services.control.dependencies import CallerDep, ReadSession, WriteSession
from services.control.shapes.base import Deleted, Page
from services.control.shapes.people import KeyCreate, KeyCreated, KeyPublic
from services.database.queries import people
from services.database.tables import Person

router = APIRouter(prefix="/onggi/v1/keys", tags=["keys"])


@router.post("", response_model=KeyCreated)
async def create_key(request: KeyCreate, session: WriteSession, caller: CallerDep) -> Any:
    """Make an API key; the key itself is in this answer only."""
    person_id = request.person_id or caller.person_id
    if person_id != caller.person_id and not caller.is_owner:
        raise OpenAIError(403, "Only an owner makes keys for others.", param="person_id")
    if await session.get(Person, person_id) is None:
        raise not_found(f"No person {person_id!r}: see GET /onggi/v1/people.", "person_id")
    row, secret = await people.create_key(session, person_id, request.name, request.store_default)
    shown = {name: getattr(row, name) for name in KeyPublic.model_fields if name != "object"}
    return shown | {"key": secret}


@router.get("", response_model=Page[KeyPublic])
async def list_keys(session: ReadSession, caller: CallerDep) -> Any:
    """Your keys, an owner's: everybody's."""
    return {"data": await people.list_keys(session, None if caller.is_owner else caller.person_id)}


@router.delete("/{key_id}", response_model=Deleted)
async def revoke_key(key_id: str, session: WriteSession, caller: CallerDep) -> Any:
    """Revoke a key; what it asked for stays."""
    if not await people.revoke_key(session, key_id, None if caller.is_owner else caller.person_id):
        raise not_found(f"No key {key_id!r} of yours.", "id")
    return Deleted(id=key_id, object="key")
