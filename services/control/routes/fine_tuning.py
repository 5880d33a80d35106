"""/v1/fine_tuning/jobs, as OpenAI has it."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request

from common.openai_errors import invalid
from services.control import fine_tune_views as views
from services.control import fine_tunes
from services.control.context import Control
from services.control.dependencies import CallerDep, ControlDep, IdempotencyKey, PersonOrJobDep, ReaderDep
from services.control.runner import FINISHED, Job
from services.control.shapes.base import Page, page
from services.control.shapes.fine_tuning import CheckpointPublic, EventPublic, JobCreate, JobPublic
from services.database.queries import files

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["fine-tuning"])
Limit = Annotated[int, Query(ge=1, le=100)]
Item = TypeVar("Item", Job, EventPublic, CheckpointPublic)


@router.post("", response_model=JobPublic)
async def create_job(
    request: JobCreate, control: ControlDep, caller: PersonOrJobDep, key: IdempotencyKey
) -> Any:
    """Fine-tune an adapter: it is trained, registered as a version of the bot `suffix`, and judged."""
    return await _show(control, await fine_tunes.create(control, caller, request, key))


@router.get("", response_model=Page[JobPublic])
async def list_jobs(
    request: Request, control: ControlDep, caller: CallerDep, after: str | None = None, limit: Limit = 20
) -> Any:
    """Your jobs, an owner's: everybody's; the newest first. `metadata[key]=value` filters."""
    runner = fine_tunes.require_runner(control)
    wanted = _metadata_filter(request)
    everything = await asyncio.to_thread(runner.list)
    visible = [job for job in everything if fine_tunes.may_see(caller, job) and _has(job, wanted)]
    jobs = _after(visible, [job.spec.id for job in visible], after)
    shown = [await _show(control, job) for job in jobs[:limit]]
    return page(shown, limit) | {"has_more": len(jobs) > limit}


@router.get("/{job_id}", response_model=JobPublic)
async def get_job(job_id: str, control: ControlDep, caller: ReaderDep) -> Any:
    """One job."""
    return await _show(control, await fine_tunes.get(control, caller, job_id))


@router.post("/{job_id}/cancel", response_model=JobPublic)
async def cancel_job(job_id: str, control: ControlDep, caller: CallerDep) -> Any:
    """Stop a job; the answer comes when its processes are gone."""
    await fine_tunes.get(control, caller, job_id)
    await asyncio.to_thread(fine_tunes.require_runner(control).cancel, job_id)
    return await _show(control, await fine_tunes.get(control, caller, job_id))


@router.get("/{job_id}/events", response_model=Page[EventPublic])
async def list_events(
    job_id: str, control: ControlDep, caller: CallerDep, after: str | None = None, limit: Limit = 20
) -> Any:
    """What happened to a job, the newest first; steps of the training are of type `metrics`."""
    await fine_tunes.get(control, caller, job_id)
    events = await asyncio.to_thread(fine_tunes.require_runner(control).events, job_id)
    shown = [views.show_event(job_id, number, event) for number, event in enumerate(events)][::-1]
    return page(list(_after(shown, [event.id for event in shown], after)), limit)


@router.get("/{job_id}/checkpoints", response_model=Page[CheckpointPublic])
async def list_checkpoints(
    job_id: str, control: ControlDep, caller: CallerDep, after: str | None = None, limit: Limit = 10
) -> Any:
    """The versions that a job has made: names that can be called."""
    job = await fine_tunes.get(control, caller, job_id)
    events = await asyncio.to_thread(fine_tunes.require_runner(control).events, job_id)
    shown = views.show_checkpoints(job, list(events))
    return page(list(_after(shown, [checkpoint.id for checkpoint in shown], after)), limit)


async def _show(control: Control, job: Job) -> JobPublic:
    events = []
    if job.status.state not in FINISHED:
        events = list(await asyncio.to_thread(fine_tunes.require_runner(control).events, job.spec.id))
    async with control.database.read() as session:
        result = await files.get(session, views.result_file_id(job.spec.id), None)
    return views.show(job, events, [result.id] if result else [])


def _after(items: Sequence[Item], ids: list[str], after: str | None) -> Sequence[Item]:
    if after is None:
        return items
    if after not in ids:
        raise invalid(f"after = {after!r} is not in this list.", "after")
    return items[ids.index(after) + 1 :]


def _metadata_filter(request: Request) -> dict[str, str]:
    pairs = request.query_params.items()
    return {key[9:-1]: value for key, value in pairs if key.startswith("metadata[") and key.endswith("]")}


def _has(job: Job, wanted: dict[str, str]) -> bool:
    return wanted.items() <= (job.spec.metadata or {}).items()
