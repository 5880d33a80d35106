"""What control does by itself: look after fine-tunes, keep their figures as files, repair the versions."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime

from common import logging
from common.openai_errors import OpenAIError
from common.storage import StorageUnavailable
from services.control import claims, erasing, repair, uploads
from services.control.context import Control
from services.control.fine_tune_views import estimate_finish, result_file_id
from services.control.fine_tunes import incoming_folder
from services.control.runner import FINISHED, Job, Runner, RunnerUnavailable
from services.database import credentials
from services.database.away import describe, is_away
from services.database.queries import files, trainings
from services.database.tables import File, Training

TICK_SECONDS = 1.0
TELL_SECONDS = 5.0
RESULT_PURPOSE = "fine-tune-results"


@contextlib.asynccontextmanager
async def running(control: Control) -> AsyncIterator[None]:
    """Do it all until the block ends."""
    # Rows gathered for a job whose request was cut off belong to nothing.
    await asyncio.to_thread(shutil.rmtree, incoming_folder(control), ignore_errors=True)
    work = {
        "jobs": (TICK_SECONDS, look_after_jobs),
        "trainings": (TELL_SECONDS, tell_gateways),
        "repair": (repair.SECONDS, repair.repair),
        "erasing": (repair.SECONDS, erasing.keep_settling),
    }
    tasks = [asyncio.create_task(_every(seconds, name, do, control)) for name, (seconds, do) in work.items()]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def look_after_jobs(control: Control) -> None:
    """One round: start what is queued, see to what died, keep the figures of what has ended.

    A fine-tune whose retrain was killed before it told of it is written down for it.
    """
    if control.runner is None:
        return
    await asyncio.to_thread(control.runner.tick)
    jobs = await asyncio.to_thread(control.runner.list)
    finished = {result_file_id(job.spec.id): job for job in jobs if job.status.state in FINISHED}
    async with control.database.read() as session:
        kept = await files.existing(session, list(finished))
    for file_id in finished.keys() - kept:
        await _keep_results(control, control.runner, finished[file_id], file_id)
    await claims.tell(control, jobs)


async def tell_gateways(control: Control) -> None:
    """Write down which fine-tunes hold a card, and until when: meanwhile there may be nothing that serves."""
    if control.runner is None:
        return
    runner = control.runner
    jobs = await asyncio.to_thread(runner.list)
    training = [job for job in jobs if job.status.step == "finetune" and job.status.state == "running"]
    rows = []
    for job in training:
        until = estimate_finish(job, list(await asyncio.to_thread(runner.events, job.spec.id)))
        rows.append(
            Training(
                job_id=job.spec.id,
                person_id=job.spec.person_id or None,
                until=datetime.fromtimestamp(until, UTC) if until else None,
            )
        )
    async with control.database.session() as session:
        await trainings.replace(session, rows)


async def _keep_results(control: Control, runner: Runner, job: Job, file_id: str) -> None:
    figures = await asyncio.to_thread(runner.results, job.spec.id)
    if figures:
        name = f"{job.spec.id}-metrics.jsonl"
        person_id = job.spec.person_id or await _first_owner(control)
        row = File(id=file_id, person_id=person_id, filename=name, purpose=RESULT_PURPOSE)
        await uploads.keep(control, row, figures)


async def _first_owner(control: Control) -> str:
    """Whom belongs what nobody made through the API."""
    async with control.database.read() as session:
        owner = await credentials.first_owner(session)
    assert owner is not None, "control makes an owner before it serves"
    return owner.person_id


async def _every(
    seconds: float, name: str, do: Callable[[Control], Awaitable[None]], control: Control
) -> None:
    while True:
        try:
            await do(control)
        except (RunnerUnavailable, StorageUnavailable, OpenAIError) as error:
            logging.get("system").warning("background work waits", work=name, reason=str(error))
        except Exception as error:  # whatever it was, the next round comes
            if is_away(error):
                logging.get("system").warning("background work waits", work=name, reason=describe(error))
            else:
                logging.get("system").exception("background work failed", work=name)
        await asyncio.sleep(seconds)
