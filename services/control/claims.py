"""Who may train a bot on a dataset: on each dataset once, and one retrain of a bot at a time.

Of a retrain the row says what was claimed, and the runner's record how its fine-tune went; neither repeats
the other, so a retrain that was killed before it told of its fine-tune is known by that fine-tune.
"""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from common.openai_errors import OpenAIError
from services.control import serving
from services.control.context import Control
from services.control.runner import FINISHED, Job, State
from services.control.shapes.loop import RetrainClaim
from services.database.queries import losses, retrains
from services.database.tables import Retrain, new_id, now

ENDED_BADLY: frozenset[State] = frozenset({"failed", "cancelled"})
WAY_OUT = "Mend that and retrain with force; other rows to learn from are tried by themselves."


async def claim(control: Control, request: RetrainClaim) -> Retrain:
    """The retrain that the caller is to begin, or to go on with.

    Asked for again with the same dataset, by whoever comes, it is the same one. Another dataset of the bot
    waits until that has become a fine-tune and the fine-tune has ended, or until nobody has asked for it for
    ``claim_seconds``, which is longer than any jobs.retrain runs.

    Raises:
        OpenAIError: 404, there is no such bot; 409 with the reason, the dataset was learned from, or failed,
            or the bot is being retrained on another.
    """
    asked = now()
    jobs = await fine_tunes(control)
    async with control.database.session() as session:
        # Of two schedulers with two datasets the later sees what the earlier wrote.
        await serving.lock(session, request.bot)
        rows = await retrains.of(session, request.bot)
        for row in rows:
            _tell(row, fine_tune(row, jobs))
        mine = next((row for row in rows if row.dataset_digest == request.dataset_digest), None)
        others = [row for row in rows if row is not mine]
        gone = mine is not None and await _files_go(session, mine)
        waits = (
            _lost(request, None if gone else mine)
            or (mine and _settled(mine, fine_tune(mine, jobs), force=request.force))
            or _occupied(request.bot, others, jobs, asked, control.settings.claim_seconds)
        )
        if not waits:
            return await _give(session, request, mine, gone=gone)
    raise OpenAIError(409, waits, param="dataset_digest", code="retrain_waits")


async def tell(control: Control, jobs: Sequence[Job]) -> None:
    """Write down the fine-tunes of retrains that were killed before they could."""
    async with control.database.read() as session:
        if not any(fine_tune(row, jobs) for row in await retrains.claimed(session)):
            return
    async with control.database.session() as session:
        for row in await retrains.claimed(session, lock=True):
            _tell(row, fine_tune(row, jobs))


async def fine_tunes(control: Control) -> Sequence[Job]:
    """The runner's fine-tunes, the newest first; none where it has none."""
    return await asyncio.to_thread(control.runner.list) if control.runner else []


def fine_tune(row: Retrain, jobs: Iterable[Job]) -> Job | None:
    """What a retrain became, also when it was killed before it said so; None: nothing, or its record is gone.

    A claim that was made again, by force, is older than its new fine-tune and newer than the one that failed.
    """
    for job in jobs:
        if row.state == "claimed":
            begun = job.spec.created_at >= row.updated_at.timestamp()
            if begun and (job.spec.metadata or {}).get("retrain") == row.id:
                return job
        elif job.spec.id == row.job_id:
            return job
    return None


def is_learned(row: Retrain, jobs: Iterable[Job]) -> bool:
    """Whether a version was trained on the retrain's dataset, or is now."""
    job = fine_tune(row, jobs)
    if job is None:
        return row.state == "started"  # its record is gone, what it made is not
    return job.status.version is not None or job.status.state not in ENDED_BADLY


def failure(row: Retrain, job: Job | None) -> str | None:
    """Why a retrain came to no good end, and what to do, in sentences; None when it did not."""
    if row.state == "refused":
        return f"A fine-tune was refused: {_ended(row.reason or 'no reason was given')} {WAY_OUT}"
    if job is None or job.status.state not in ENDED_BADLY:
        return None
    what = "failed" if job.status.state == "failed" else "was cancelled"
    why = f": {job.status.error.message}" if job.status.error else ""
    told = _ended(f"Fine-tune {job.spec.id} {what}{why}")
    if job.status.version:
        return f"{told} {job.status.version} is there and was not judged: judge it, or retrain with force."
    return f"{told} {WAY_OUT}"


def under_way(jobs: Iterable[Job], bot: str) -> Job | None:
    """The fine-tune of ``bot`` that has not ended."""
    going = (job for job in jobs if job.spec.bot == bot and job.status.state not in FINISHED)
    return next(going, None)


async def _files_go(session: AsyncSession, row: Retrain) -> bool:
    """Whether an erasure deletes a claim's files, although the rows to learn from are the same without it."""
    dataset = await retrains.dataset(session, row.bot, row.dataset_digest)
    return dataset is not None and await losses.has_lost(session, dataset)


def _lost(request: RetrainClaim, mine: Retrain | None) -> str | None:
    """Why a claim cannot be gone on with."""
    if request.retrain_id is None or (mine and mine.id == request.retrain_id):
        return None
    return "Some of its words were erased since it was claimed: make the dataset anew."


def _settled(row: Retrain, job: Job | None, *, force: bool) -> str | None:
    """Why nobody is to train on the dataset of ``row``, which was claimed before; None where it goes on."""
    if told := failure(row, job):
        return None if force else told
    if job is not None and job.status.state not in FINISHED:
        return f"Fine-tune {job.spec.id}, on the same rows, is under way."
    if job is not None or row.state == "started":
        made = job.spec.id if job else row.job_id
        return f"Nothing was said since {made}, which learned from the same rows."
    return None


def _occupied(
    bot: str, others: Iterable[Retrain], jobs: Sequence[Job], asked: datetime, claim_seconds: float
) -> str | None:
    """What else of the bot goes on; None when nothing does. ``jobs`` were listed at ``asked``."""
    if job := under_way(jobs, bot):
        return f"Fine-tune {job.spec.id} is under way: when it has ended, ask again."
    for row in others:
        if row.state == "claimed" and row.updated_at > asked - timedelta(seconds=claim_seconds):
            return (
                f"{row.author} retrains {bot} on other rows since {row.updated_at:%Y-%m-%d %H:%M:%S} UTC: "
                f"ask again when that has ended; what was killed is given up after {claim_seconds:g} s."
            )
        if row.state == "started" and row.updated_at >= asked and fine_tune(row, jobs) is None:
            return f"Fine-tune {row.job_id} has begun meanwhile: when it has ended, ask again."
    return None


def _tell(row: Retrain, job: Job | None) -> None:
    """Write down the fine-tune that a retrain made and was killed before it could."""
    if row.state == "claimed" and job is not None:
        row.state, row.job_id, row.updated_at = "started", job.spec.id, now()


async def _give(session: AsyncSession, request: RetrainClaim, row: Retrain | None, *, gone: bool) -> Retrain:
    """The claim, made or heard of now; ``job_id`` stays the fine-tune that failed, which another follows."""
    if row and not gone:
        row.state, row.updated_at = "claimed", now()
        return row
    if row:  # its files are gone, and are made once under its name
        await session.delete(row)
        await session.flush()
    made = Retrain(
        id=new_id("retrain_"), bot=request.bot, dataset_digest=request.dataset_digest, author=request.author
    )
    session.add(made)
    return made


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith((".", "!", "?")) else f"{sentence}."
