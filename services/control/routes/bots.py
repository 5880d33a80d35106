"""/onggi/v1/bots: what is served, and the decisions that changed it."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from common.evidence import Evidence
from services.control import evidence, serving
from services.control.dependencies import (
    ControlDep,
    DeciderDep,
    OwnerDep,
    OwnerOrJobDep,
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
    Inconclusive,
    Pin,
    Promotion,
    Rollback,
    Unpin,
)
from services.database.queries import bots

router = APIRouter(prefix="/onggi/v1/bots", tags=["bots"])


@router.get("", response_model=Page[BotPublic])
async def list_bots(session: ReadSession, _: ReaderDep) -> Any:
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
async def promote(bot: str, request: Promotion, session: WriteSession, author: DeciderDep) -> Any:
    """Make a version the champion."""
    return await serving.promote(session, author, bot, request)


@router.post("/{bot}/rollback", response_model=BotPublic)
async def roll_back(bot: str, request: Rollback, session: WriteSession, author: DeciderDep) -> Any:
    """Serve again what was served before the champion."""
    return await serving.roll_back(session, author, bot, request)


@router.post("/{bot}/candidate", response_model=BotPublic)
async def set_candidate(bot: str, request: CandidateUpdate, session: WriteSession, author: DeciderDep) -> Any:
    """Give a version a share of the traffic, or end the trial with `version: null`."""
    return await serving.set_candidate(session, author, bot, request)


@router.post("/{bot}/pin", response_model=BotPublic)
async def pin(bot: str, request: Pin, session: WriteSession, author: DeciderDep) -> Any:
    """Serve one version, which no job changes, until it is unpinned."""
    return await serving.pin(session, author, bot, request)


@router.post("/{bot}/unpin", response_model=BotPublic)
async def unpin(bot: str, request: Unpin, session: WriteSession, author: DeciderDep) -> Any:
    """Let what people say decide again."""
    return await serving.unpin(session, author, bot, request)


@router.post("/{bot}/inconclusive", response_model=BotPublic)
async def ask_a_person(bot: str, request: Inconclusive, session: WriteSession, author: DeciderDep) -> Any:
    """Note that a trial's figures will not decide it, so that a person does; what is served stays."""
    return await serving.ask_a_person(session, author, bot, request)


@router.get("/{bot}/evidence", response_model=Evidence)
async def get_evidence(
    bot: str, session: ReadSession, _: OwnerOrJobDep, limit: Annotated[int, Query(ge=1, le=100_000)] = 10_000
) -> Any:
    """What came in since the bot's trial began: everybody's ratings and choices, the first conversations."""
    return await evidence.gather(session, bot, limit)


@router.get("/{bot}/decisions", response_model=Page[DecisionPublic])
async def list_decisions(
    bot: str, session: ReadSession, _: ReaderDep, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> Any:
    """A bot's decisions, the newest first."""
    await serving.find(session, bot)
    return {"data": await bots.decisions(session, bot, limit)}
