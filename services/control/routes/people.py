"""/onggi/v1/people: the team, and how one joins it."""

from typing import Any

from fastapi import APIRouter

from common.openai_errors import OpenAIError
from services.control import erasing
from services.control.dependencies import CallerDep, ControlDep, OwnerDep, ReadSession, WriteSession
from services.control.shapes.base import Page
from services.control.shapes.erasing import Erasure
from services.control.shapes.people import InviteCreate, InviteCreated, Join, Joined, PersonPublic
from services.database import credentials
from services.database.queries import people
from services.database.tables import Person

router = APIRouter(prefix="/onggi/v1/people", tags=["people"])


@router.get("", response_model=Page[PersonPublic])
async def list_people(session: ReadSession, _: CallerDep) -> Any:
    """Everybody of the team."""
    return {"data": await people.list_people(session)}


@router.get("/me", response_model=PersonPublic)
async def get_me(session: ReadSession, caller: CallerDep) -> Any:
    """Who you are."""
    return await session.get(Person, caller.person_id)


@router.delete("/{person_id}/words", response_model=Erasure)
async def erase_words(person_id: str, control: ControlDep, caller: CallerDep) -> Any:
    """Erase everything that a person (or `me`) ever wrote or uploaded here, wherever it was copied to."""
    wanted = caller.person_id if person_id == "me" else person_id
    return await erasing.erase_person(control, caller, wanted)


@router.post("/invites", response_model=InviteCreated)
async def invite(request: InviteCreate, session: WriteSession, owner: OwnerDep) -> Any:
    """Make a link for one new person; its token is in this answer only."""
    row, token = await people.invite(session, owner.person_id, request.role, request.days)
    return {
        "id": row.id,
        "role": row.role,
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "token": token,
    }


@router.post("/join", response_model=Joined)
async def join(request: Join, session: WriteSession, control: ControlDep) -> Any:
    """Use an invite, once; the answer's token is your credential from now on."""
    person = await people.join(session, request.token, request.name)
    if person is None:
        raise OpenAIError(
            403, "This invite is unknown, used or expired: ask an owner for a new one.", code="invalid_invite"
        )
    return {"person": person, "token": credentials.issue_session(person, control.settings.jwt_secret)}
