"""/onggi/v1/examples, /review, /datasets and /retrains: from what people said to what is trained on."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from services.control import claims, examples, opinions, retraining, serving, sides
from services.control.dependencies import (
    CallerDep,
    ControlDep,
    JobToken,
    OwnerDep,
    OwnerOrJobDep,
    ReaderDep,
    ReadSession,
    WriteSession,
)
from services.control.shapes.base import Page
from services.control.shapes.loop import (
    DatasetCreate,
    DatasetPublic,
    ExamplePage,
    Progress,
    RetrainBegun,
    RetrainClaim,
    RetrainPublic,
    RetrainRequest,
    RetrainUpdate,
    ReviewItem,
    Sides,
)
from services.database.queries import examples as queries
from services.database.queries import retrains

router = APIRouter(prefix="/onggi/v1", tags=["loop"])
Limit = Annotated[int, Query(ge=1, le=1000)]


@router.get("/examples", response_model=ExamplePage)
async def list_examples(
    bot: str,
    session: ReadSession,
    _: OwnerOrJobDep,
    after: str | None = None,
    limit: Limit = 200,
    unreviewed: bool = False,
) -> Any:
    """What may be learned from: reviewed opinions with their texts, and blind choices."""
    await serving.find(session, bot)
    return await examples.page(session, bot, opinions.parse_cursor(after), limit, unreviewed=unreviewed)


@router.get("/review", response_model=Page[ReviewItem])
async def list_unseen(
    bot: str,
    session: ReadSession,
    _: OwnerDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 10,
    days: Annotated[float, Query(gt=0, le=3650)] = 30,
) -> Any:
    """Answers of the last days that nobody rated, drawn at random; say what you think at POST /feedback."""
    await serving.find(session, bot)
    drawn = await queries.unseen(session, bot, limit=limit, days=days)
    return {"data": [ReviewItem.of(completion) for completion in drawn]}


@router.post("/datasets", response_model=DatasetPublic)
async def record_dataset(request: DatasetCreate, control: ControlDep, caller: OwnerOrJobDep) -> Any:
    """Keep what a dataset is made of, before its files are uploaded."""
    return await retraining.record(control, caller, request)


@router.get("/datasets/{digest}", response_model=DatasetPublic)
async def get_dataset(digest: str, bot: str, session: ReadSession, _: OwnerOrJobDep) -> Any:
    """A dataset: its files, the ids that its rows came from, and its figures."""
    return await retraining.dataset(session, bot, digest)


@router.post("/retrains", response_model=RetrainPublic, dependencies=[JobToken])
async def claim_retrain(request: RetrainClaim, control: ControlDep) -> Any:
    """Claim a dataset for training; whoever asks for the same one gets the same retrain.

    409 says why not: it was learned from or failed before, or another retrain of the bot goes on.
    """
    return await claims.claim(control, request)


@router.patch("/retrains/{retrain_id}", response_model=RetrainPublic, dependencies=[JobToken])
async def change_retrain(retrain_id: str, request: RetrainUpdate, session: WriteSession) -> Any:
    """Say how a retrain went on."""
    return await retraining.change(session, retrain_id, request)


@router.get("/retrains", response_model=Page[RetrainPublic])
async def list_retrains(
    session: ReadSession, _: CallerDep, bot: str | None = None, limit: Limit = 100
) -> Any:
    """The retrains, the newest first."""
    return {"data": await retrains.page(session, bot, limit)}


@router.get("/bots/{bot}/progress", response_model=Progress)
async def get_progress(bot: str, control: ControlDep, _: ReaderDep) -> Any:
    """How far a bot is from its next retrain."""
    return await retraining.progress(control, bot)


@router.get("/bots/{bot}/sides", response_model=Sides)
async def get_sides(bot: str, session: ReadSession, _: OwnerOrJobDep) -> Any:
    """Which conversations earlier datasets of a bot learned from and which they held out."""
    return await sides.show(session, bot)


@router.post("/bots/{bot}/retrain", response_model=RetrainBegun)
async def begin_retrain(
    bot: str, control: ControlDep, owner: OwnerDep, request: RetrainRequest | None = None
) -> Any:
    """Look now whether a retrain is due, and begin it; with `force` also when it is not."""
    return await retraining.begin(control, owner.name, bot, force=bool(request and request.force))
