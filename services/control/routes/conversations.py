"""/onggi/v1/conversations: what was said, where its text is stored."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from common.openai_errors import not_found
from services.control import erasing
from services.control.dependencies import CallerDep, ControlDep, ReadSession
from services.control.shapes.base import Page
from services.control.shapes.erasing import Erasure
from services.control.shapes.feedback import ConversationPublic, ConversationSummary
from services.database.queries import comparisons, conversations
from services.database.queries.conversations import Summary

router = APIRouter(prefix="/onggi/v1/conversations", tags=["conversations"])


@router.get("", response_model=Page[ConversationSummary])
async def list_conversations(
    session: ReadSession,
    caller: CallerDep,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> Any:
    """Your own conversations, the last used first."""
    found = await conversations.page(session, caller.person_id, limit=limit + 1, offset=offset)
    return {"data": [_summary(row) for row in found[:limit]], "has_more": len(found) > limit}


@router.get("/{conversation_id}", response_model=ConversationPublic)
async def get_conversation(conversation_id: str, session: ReadSession, caller: CallerDep) -> Any:
    """One conversation with the versions that answered and what was said of them; an owner's: anybody's."""
    person_id = None if caller.is_owner else caller.person_id
    turns = await conversations.turns(session, conversation_id, person_id)
    if not turns:
        raise not_found(f"No stored conversation {conversation_id!r} of yours.", "id")
    said = await conversations.feedback_on(session, [turn.id for turn in turns])
    left = await comparisons.passed_over(session, [turn.id for turn in turns])
    return ConversationPublic.of(conversation_id, turns, said, left)


@router.delete("/{conversation_id}", response_model=Erasure)
async def erase_conversation(conversation_id: str, control: ControlDep, caller: CallerDep) -> Any:
    """Erase what was said in a conversation, wherever it was copied to; by an owner: everybody's part."""
    return await erasing.erase_conversation(control, caller, conversation_id)


def _summary(row: Summary) -> dict[str, Any]:
    fields = row._asdict()
    return {"id": fields.pop("conversation_key"), **fields}
