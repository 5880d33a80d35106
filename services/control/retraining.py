"""Which datasets of a bot were trained on, and how far it is from the next: one retrain a dataset."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncSession

from common.openai_errors import OpenAIError, not_found
from services.control import claims, erasing, serving, sides
from services.control.context import Control
from services.control.fine_tunes import require_runner
from services.control.runner import Job, RetrainRun
from services.control.shapes.loop import (
    DatasetCreate,
    Progress,
    RetrainBegun,
    RetrainPublic,
    RetrainUpdate,
)
from services.database.credentials import Caller
from services.database.queries import examples, lineage, losses, retrains
from services.database.tables import Bot, Dataset, Retrain, keyed_id, new_id


async def begin(control: Control, author: str, name: str, *, force: bool) -> RetrainBegun:
    """Run jobs.retrain once for the bot ``name``, as its schedule would; ``author`` asks for it.

    Raises:
        OpenAIError: 404; 503, this installation cannot fine-tune.
    """
    runner = require_runner(control)
    async with control.database.read() as session:
        await serving.find(session, name)
    run = RetrainRun(id=new_id("run-"), bot=name, author=author, force=force)
    await asyncio.to_thread(runner.retrain, run)
    return RetrainBegun(id=run.id, bot=name)


async def record(control: Control, caller: Caller, request: DatasetCreate) -> Dataset:
    """Keep what a dataset is made of, and which files will hold it; said again, it says the same.

    Raises:
        OpenAIError: 404, there is no such bot; 409, some of these words were erased since they were read, or
            another dataset put their conversations on the other side. The claim is given up then: what is
            made anew is another dataset. Or an erasure still has files of an earlier claim to delete, which
            are found by this record.
    """
    try:
        async with control.database.session() as session:
            await serving.find(session, request.bot)
            await _check_sources(session, request)
            await sides.check(session, request)
            row = _row(caller, request)
            await _check_files(control, session, row)
            return await retrains.record(session, row)
    except OpenAIError:
        async with control.database.session() as session:
            await retrains.give_up(session, request.retrain_id)
        raise


def _row(caller: Caller, request: DatasetCreate) -> Dataset:
    keys = {name: f"{request.retrain_id}:{name}" for name in request.files}
    ids = {name: keyed_id("file-", caller.person_id, key) for name, key in keys.items()}
    return Dataset(
        digest=request.digest,
        bot=request.bot,
        person_id=caller.person_id,
        training_file=ids["train.jsonl"],
        validation_file=ids["heldout.jsonl"],
        preference_file=ids.get("preferences.jsonl"),
        label_file=ids.get("labels.jsonl"),
        sources=[source.model_dump() for source in request.sources],
        figures=request.figures,
    )


async def _check_sources(session: AsyncSession, request: DatasetCreate) -> None:
    ids = [source.id for source in request.sources]
    if gone := len(set(ids)) - len(await lineage.existing(session, ids)):
        message = f"{gone} of these ratings were erased since they were read: make the dataset anew."
        raise OpenAIError(409, message, param="sources", code="erased_meanwhile")


async def _check_files(control: Control, session: AsyncSession, row: Dataset) -> None:
    known = await retrains.dataset(session, row.bot, row.digest)
    replaced = known is not None and known.training_file != row.training_file
    if replaced and erasing.EVERYTHING not in control.erased:
        message = "The files of an earlier claim of these rows are still to be erased: ask again in a minute."
        raise OpenAIError(409, message, param="files", code="erasing")


async def dataset(session: AsyncSession, bot: str, digest: str) -> Dataset:
    """One of ``bot``'s datasets.

    Raises:
        OpenAIError: 404.
    """
    row = await retrains.dataset(session, bot, digest)
    if row is None:
        raise not_found(f"{bot} has no dataset {digest}: see GET /onggi/v1/retrains.", "digest")
    return row


async def change(session: AsyncSession, retrain_id: str, request: RetrainUpdate) -> Retrain:
    """Write how a retrain went on.

    Raises:
        OpenAIError: 404.
    """
    row = await retrains.change(session, retrain_id, request.state, request.job_id, request.reason)
    if row is None:
        raise not_found(f"No retrain {retrain_id!r}: claim one with POST /onggi/v1/retrains.", "id")
    return row


async def progress(control: Control, name: str) -> Progress:
    """How far the bot ``name`` is from its next retrain.

    Raises:
        OpenAIError: 404.
    """
    jobs = await claims.fine_tunes(control)
    needed = control.settings.retrain_minimum
    async with control.database.read() as session:
        bot = await serving.find(session, name)
        rows = await retrains.of(session, name)
        last = next((row for row in rows if claims.is_learned(row, jobs)), None)
        trained = await retrains.dataset(session, name, last.dataset_digest) if last else None
        new = len(await _new_corrections(session, bot, trained))
        erased = [f"{name}@{version.number}" for version in await retrains.erased(session, name)]
        due = bool(erased) and (trained is None or await losses.learned_from_lost(session, trained))
        waiting = await examples.waiting(session, name)
    failed = _failed(rows, jobs)
    going = claims.under_way(jobs, name)
    return Progress(
        bot=name,
        base=bot.base,
        corrections=new,
        needed=needed,
        sentence=_sentence(_count(new, needed, waiting), erased, failed, due=due),
        failed=failed,
        waiting_for_review=waiting,
        erased=erased,
        due_for_erasure=due,
        under_way=going.spec.id if going else None,
        gpu_hours=round(gpu_hours(jobs, time.time()), 3),
        last=RetrainPublic.model_validate(last) if last else None,
    )


async def _new_corrections(session: AsyncSession, bot: Bot, trained: Dataset | None) -> set[str]:
    known = set(await examples.corrections(session, bot.name))
    return known - {source["id"] for source in trained.sources} if trained else known


def _failed(rows: Iterable[Retrain], jobs: Sequence[Job]) -> str | None:
    """What became of the last retrain that came to an end, if that was no good one."""
    ended = next((row for row in rows if row.state != "claimed" or claims.fine_tune(row, jobs)), None)
    return claims.failure(ended, claims.fine_tune(ended, jobs)) if ended else None


def _sentence(count: str, erased: list[str], failed: str | None, *, due: bool) -> str:
    said = f"{', '.join(erased)} learned from words that were erased since"
    if due:
        told = [f"{said}: the next retrain is due."]
    else:
        told = [f"{said}; what learned without them is to be served.", count] if erased else [count]
    return " ".join([*told, failed] if failed else told)


def _count(new: int, needed: int, waiting: int) -> str:
    said = f"{new} of {needed} corrections until the next retrain"
    return f"{said}; {waiting} opinions wait for an owner's review." if waiting else f"{said}."


def gpu_hours(jobs: Iterable[Job], now: float) -> float:
    """Hours that the fine-tunes of this month (UTC) took from their first start to their end, or to now.

    One card each; the judging, which has none of its own, is counted too, for it keeps the served one busy.
    """
    month = datetime.fromtimestamp(now, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    began = month.timestamp()
    spans = [
        (max(job.status.started_at, began), job.status.finished_at or now)
        for job in jobs
        if job.status.started_at
    ]
    return sum(max(0.0, end - start) for start, end in spans) / 3600
