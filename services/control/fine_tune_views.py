"""How a fine-tuning job is shown: OpenAI's objects, made from the runner's record."""

import time
from typing import Any

from common.finetune_config import FinetuneConfig
from services.control.runner import FINISHED, Job, JobEvent
from services.control.shapes.fine_tuning import (
    CheckpointPublic,
    EventPublic,
    JobPublic,
    ShownError,
    Status,
)


def result_file_id(job_id: str) -> str:
    """The id of the file that a finished job's figures become."""
    return f"file-{job_id.removeprefix('ftjob-')}"


def show(job: Job, events: list[JobEvent], result_files: list[str]) -> JobPublic:
    """A job as OpenAI's ``fine_tuning.job``."""
    spec, status = job.spec, job.status
    finished = status.state in FINISHED
    error = status.error
    return JobPublic(
        id=spec.id,
        created_at=int(spec.created_at),
        error=ShownError(code=error.code, message=error.message) if error else None,
        fine_tuned_model=status.version if finished else None,
        finished_at=int(status.finished_at) if status.finished_at else None,
        hyperparameters=dict(spec.hyperparameters),
        model=spec.base,
        result_files=result_files,
        seed=spec.seed,
        status=_status(job),
        trained_tokens=status.trained_tokens if finished else None,
        training_file=spec.training_file,
        validation_file=spec.validation_file,
        estimated_finish=None if finished else estimate_finish(job, events),
        metadata=spec.metadata,
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": dict(spec.hyperparameters)},
        },
        suffix=spec.bot,
    )


def estimate_finish(job: Job, events: list[JobEvent]) -> int | None:
    """When the training ends if it goes on as it did: the time since its start, by the share that is done."""
    steps = [event for event in events if event.type == "metrics"]
    epochs = float(job.spec.config.get("epochs", FinetuneConfig.model_fields["epochs"].default))
    if len(steps) < 2 or job.status.step != "finetune":
        return None
    first, last = steps[0], steps[-1]
    done = _epoch(last) - _epoch(first)
    if done <= 0:
        return None
    left = max(0.0, epochs - _epoch(last))
    return int(max(time.time(), last.created_at + (last.created_at - first.created_at) * left / done))


def show_event(job_id: str, number: int, event: JobEvent) -> EventPublic:
    """An event as OpenAI's ``fine_tuning.job.event``; ``number`` is its place in the job's story."""
    return EventPublic(
        id=f"ftevent-{job_id.removeprefix('ftjob-')}-{number:06d}",
        created_at=int(event.created_at),
        level=event.level,
        message=event.message,
        data=event.data,
        type=event.type,
    )


def show_checkpoints(job: Job, events: list[JobEvent]) -> list[CheckpointPublic]:
    """The registered version, once there is one: a checkpoint's name must be callable."""
    steps = [event for event in events if event.type == "metrics"]
    if job.status.version is None or not steps:
        return []
    last = steps[-1]
    data: dict[str, Any] = last.data or {}
    metrics = {key: float(data[key]) for key in ("step", "train_loss") if data.get(key) is not None}
    return [
        CheckpointPublic(
            id=f"ftckpt_{job.spec.id.removeprefix('ftjob-')}",
            created_at=int(last.created_at),
            fine_tuned_model_checkpoint=job.status.version,
            fine_tuning_job_id=job.spec.id,
            metrics=metrics,
            step_number=int(data.get("step") or 0),
        )
    ]


def _status(job: Job) -> Status:
    return "running" if job.status.state == "starting" else job.status.state


def _epoch(event: JobEvent) -> float:
    return float((event.data or {}).get("epoch") or 0.0)
