"""/onggi/v1/feedback: ratings and corrections."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from services.control import opinions
from services.control.dependencies import CallerDep, ReaderDep, ReadSession, WriteSession
from services.control.shapes.feedback import FeedbackCreate, FeedbackPage, FeedbackPublic, FeedbackUpdate
from services.database.queries import feedback
from services.database.tables import FeedbackState

router = APIRouter(prefix="/onggi/v1/feedback", tags=["feedback"])


@router.post("", response_model=FeedbackPublic)
async def give_feedback(request: FeedbackCreate, session: WriteSession, caller: CallerDep) -> Any:
    """Rate or correct an answer; said again about the same answer, it replaces what you said."""
    return await opinions.say(session, caller, request)


@router.get("", response_model=FeedbackPage)
async def list_feedback(
    session: ReadSession,
    caller: ReaderDep,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    bot: str | None = None,
    state: FeedbackState | None = None,
) -> Any:
    """Your feedback, an owner's and a job's: everybody's; whatever changes comes again after the cursor."""
    person_id = None if caller.is_owner else caller.person_id
    place = opinions.parse_cursor(after)
    found = await feedback.page(session, person_id, after=place, limit=limit + 1, bot=bot, state=state)
    rows = list(found)[:limit]
    following = opinions.cursor(rows[-1]) if rows else after
    return {"data": rows, "has_more": len(found) > limit, "next": following}


@router.patch("/{feedback_id}", response_model=FeedbackPublic)
async def change_feedback(
    feedback_id: str, request: FeedbackUpdate, session: WriteSession, caller: CallerDep
) -> Any:
    """Change your words or, as an owner, accept or reject somebody's."""
    return await opinions.change(session, caller, feedback_id, request)
