"""Copies of erased words outside the database: files and adapters in the store, rows and answers of
fine-tunes, answers side by side in MLflow.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from common.names import VersionName
from common.openai_errors import OpenAIError
from common.registry import RegistryError
from common.storage import StorageUnavailable
from services.control.context import Control
from services.control.datasets import file_at, file_key
from services.control.runner import FINISHED, Job, Runner, RunnerUnavailable
from services.database import tombstones
from services.database.queries import losses
from services.database.tables import Tombstone, Version

EVALUATION = "evaluation"  # the folder of jobs.evaluate in a version's run
_AWAY = (StorageUnavailable, RegistryError, RunnerUnavailable, OpenAIError)


@dataclass(frozen=True)
class Remains:
    """What erased words may have been copied to.

    ``files`` in the store, each with the time when it was deleted, or None where a row is yet to come; of
    these ``uploads`` were uploaded by hand, and ``unread`` are of datasets that held none in their training
    and validation files. ``versions`` were trained or judged on datasets that held some there.
    """

    files: Mapping[str, datetime | None]
    uploads: set[str]
    unread: set[str]
    versions: Sequence[Version]


async def delete(control: Control, graves: Sequence[Tombstone], remains: Remains) -> list[str]:
    """Delete what is left of the copies; a sentence for each place that is away now."""
    work = [
        partial(_delete_files, control, graves, remains.files),
        partial(_delete_rows, control, remains),
        partial(_delete_answers, control, remains.versions),
    ]
    waiting = []
    for part in work:
        try:
            await part()
        except _AWAY as error:
            waiting.append(str(error))
    return waiting


async def _delete_files(
    control: Control, graves: Sequence[Tombstone], files: Mapping[str, datetime | None]
) -> None:
    store = await asyncio.to_thread(control.store)
    for grave in graves:
        await _once(control, grave.id, partial(tombstones.keep, store, grave))
    for file_id, moment in sorted(files.items()):
        if moment is None:  # its bytes come before its row: look again
            control.erased.discard(f"{file_id} {moment}")
        await _once(control, f"{file_id} {moment}", partial(store.delete, file_key(file_id)))


async def _delete_rows(control: Control, remains: Remains) -> None:
    """Fine-tunes on these files: those under way are cancelled, and what the others keep of rows goes."""
    if control.runner is None:
        return
    for job in await asyncio.to_thread(control.runner.list):
        learned, judged_on = file_at(job.spec.training_file), file_at(job.spec.validation_file or "")
        if (remains.files.keys() - remains.unread) & {learned, judged_on}:
            await _once(control, job.spec.id, partial(_forget, control.runner, job))
            if job.status.state not in FINISHED:
                async with control.database.session() as session:
                    await losses.cancelled(session, job.spec.id)
        if remains.uploads & {learned, judged_on}:
            await _mark(control, job, learned=learned in remains.uploads)


def _forget(runner: Runner, job: Job) -> None:
    if job.status.state not in FINISHED:
        runner.cancel(job.spec.id)
    runner.forget_rows(job.spec.id)


async def _mark(control: Control, job: Job, *, learned: bool) -> None:
    """What was trained, or (not ``learned``) judged, on an upload that is gone is known by its fine-tune."""
    async with control.database.session() as session:
        versions = await losses.of_jobs(session, [job.spec.id])
        losses.mark(versions, learned=learned)
    await _delete_answers(control, versions)


async def _delete_answers(control: Control, versions: Sequence[Version]) -> None:
    if control.registry is None:
        return
    for version in versions:
        if version.run_id:
            delete = partial(control.registry.delete_artifacts, version.run_id, EVALUATION)
            await _once(control, f"{version.bot}@{version.number} {EVALUATION}", delete)


async def delete_adapters(control: Control) -> None:
    """Delete the files of versions that were retired since they had learned from erased words.

    Raises:
        OpenAIError: 503, the store is away.
    """
    async with control.database.read() as session:
        retired = await losses.retired_versions(session)
    if not retired:
        return
    store = await asyncio.to_thread(control.store)
    for version in retired:
        name = VersionName(version.bot, version.number).folder
        await _once(control, name, partial(store.delete, name))


async def _once(control: Control, name: str, do: Callable[[], object]) -> None:
    """Do it, in a thread, unless this process has."""
    if name not in control.erased:
        await asyncio.to_thread(do)
        control.erased.add(name)
