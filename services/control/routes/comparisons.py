"""/onggi/v1/comparisons: two answers side by side, without names."""

from typing import Any

from fastapi import APIRouter

from services.control import comparing
from services.control.dependencies import CallerDep, WriteSession
from services.control.shapes.comparisons import (
    Chosen,
    ComparisonChosen,
    ComparisonCreate,
    ComparisonPublic,
)

router = APIRouter(prefix="/onggi/v1/comparisons", tags=["comparisons"])


@router.post("", response_model=ComparisonPublic)
async def begin_comparison(request: ComparisonCreate, session: WriteSession, caller: CallerDep) -> Any:
    """You are shown two answers to one message, by two versions of a bot (ask for `bot@6` and `bot@7`)."""
    return await comparing.begin(session, caller, request)


@router.post("/{comparison_id}/choice", response_model=ComparisonChosen)
async def choose(comparison_id: str, request: Chosen, session: WriteSession, caller: CallerDep) -> Any:
    """Choose one of the two, or neither, once; the answer tells which version was which."""
    return await comparing.choose(session, caller, comparison_id, request.choice)
