"""/onggi/v1/bots: what is served, and the decisions that changed it."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from services.control import serving
from services.control.dependencies import (
    CallerDep,
    ControlDep,
    OwnerDep,
    ReaderDep,
    ReadSession,
    WriteSession,
)
from services.control.shapes.base import Page
from services.control.shapes.bots import (
    BotCreate,
    BotPublic,
    CandidateUpdate,
    DecisionPublic,
    Promotion,
    Rollback,
)
from services.database.queries import bots

router = APIRouter(prefix="/onggi/v1/bots", tags=["bots"])


@router.get("", response_model=Page[BotPublic])
async def list_bots(session: ReadSession, _: CallerDep) -> Any:
    """Every bot and what its name serves."""
    return {"data": await bots.all_bots(session)}


@router.post("", response_model=BotPublic)
async def create_bot(request: BotCreate, control: ControlDep, owner: OwnerDep) -> Any:
    """Make a bot, so that people can rate what its base says before anything was trained."""
    return await serving.create(control, owner, request)


@router.get("/{bot}", response_model=BotPublic)
async def get_bot(bot: str, session: ReadSession, _: ReaderDep) -> Any:
    """One bot."""
    return await serving.find(session, bot)


@router.post("/{bot}/promote", response_model=BotPublic)
async def promote(bot: str, request: Promotion, session: WriteSession, owner: OwnerDep) -> Any:
    """Make a version the champion."""
    return await serving.promote(session, owner, bot, request)


@router.post("/{bot}/rollback", response_model=BotPublic)
async def roll_back(bot: str, request: Rollback, session: WriteSession, owner: OwnerDep) -> Any:
    """Serve again what was served before the champion."""
    return await serving.roll_back(session, owner, bot, request)


@router.post("/{bot}/candidate", response_model=BotPublic)
async def set_candidate(bot: str, request: CandidateUpdate, session: WriteSession, owner: OwnerDep) -> Any:
    """Give a version a share of the traffic, or end the trial with `version: null`."""
    return await serving.set_candidate(session, owner, bot, request)


@router.get("/{bot}/decisions", response_model=Page[DecisionPublic])
async def list_decisions(
    bot: str, session: ReadSession, _: CallerDep, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> Any:
    """A bot's decisions, the newest first."""
    await serving.find(session, bot)
    return {"data": await bots.decisions(session, bot, limit)}
