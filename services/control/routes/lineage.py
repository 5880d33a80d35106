"""/onggi/v1/lineage: why this answer, and what became of that rating."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from services.control import lineage
from services.control.dependencies import ReaderDep, ReadSession
from services.control.shapes.lineage import Lineage

router = APIRouter(prefix="/onggi/v1/lineage", tags=["lineage"])


@router.get("/{id}", response_model=Lineage)
async def get_lineage(
    id: str, session: ReadSession, caller: ReaderDep, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> Any:
    """What an answer, a version, a rating or a dataset came from, and what it led to."""
    return await lineage.trace(session, caller, id, limit)
