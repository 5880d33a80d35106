"""What a fine-tune's Jobs and pods say: what was asked for, how far it is, why it failed. Nothing is kept."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import yaml

from common.errors import EXIT_AWAY
from common.models import local_name
from services.control.kubernetes import marks
from services.control.kubernetes.marks import Object
from services.control.runner import ERROR_CODES, JobError, JobSpec, JobStatus, said_last


@dataclass(frozen=True)
class FineTune:
    """One fine-tune as the cluster has it: its first Job, its second once there is one, all marked pods."""

    id: str
    finetune: Object
    evaluate: Object | None = None
    pods: list[Object] = field(default_factory=list)

    def jobs(self) -> list[Object]:
        """The Jobs, in order."""
        return [self.finetune, *([self.evaluate] if self.evaluate else [])]

    def pods_of(self, job: Object) -> list[Object]:
        """That Job's pods, the oldest first."""
        uid = job["metadata"]["uid"]
        mine = [pod for pod in self.pods if marks.labels(pod).get(marks.CONTROLLER) == uid]
        return sorted(mine, key=lambda pod: str(pod["metadata"].get("creationTimestamp")))

    @property
    def held_out(self) -> str | None:
        """The address of the rows to judge on; a Job that kubectl made names them as its validation rows."""
        told = marks.annotations(self.finetune)
        if marks.SPEC in told or marks.HELD_OUT in told:
            return told.get(marks.HELD_OUT)
        return marks.environment(self.finetune, "finetune").get("FINETUNE_VALIDATION")


def group(jobs: Iterable[Object], pods: Iterable[Object]) -> dict[str, FineTune]:
    """The fine-tunes among the marked Jobs, by id."""
    jobs, pods = list(jobs), list(pods)
    found = {}
    for finetune in (job for job in jobs if marks.step(job) == "finetune"):
        mine = [job for job in jobs if marks.step(job) == "evaluate" and _judges(job, finetune)]
        evaluate = max(mine, key=created, default=None)
        one = FineTune(marks.job_id(finetune), finetune, evaluate, pods)
        found[one.id] = one
    return found


def _judges(evaluate: Object, finetune: Object) -> bool:
    """Whether the second Job is the first one's: owned by it or, made by hand, marked alike and newer."""
    owners = evaluate["metadata"].get("ownerReferences") or []
    uids = [owner["uid"] for owner in owners if owner["kind"] == "Job"]
    if uids:
        return finetune["metadata"]["uid"] in uids
    alike = marks.labels(evaluate)[marks.FINE_TUNE] == marks.labels(finetune)[marks.FINE_TUNE]
    return alike and created(evaluate) >= created(finetune)


def created(thing: Object) -> float:
    """When the object was made, in seconds since the epoch."""
    return seconds(thing["metadata"].get("creationTimestamp")) or 0.0


def seconds(text: str | None) -> float | None:
    """Kubernetes' time as seconds since the epoch."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() if text else None


def spec(tune: FineTune) -> JobSpec:
    """What was asked for: control's annotation or, where kubectl made the Job, its variables."""
    told = marks.annotations(tune.finetune).get(marks.SPEC)
    if told:
        return JobSpec.model_validate_json(told)
    given = marks.environment(tune.finetune, "finetune")
    config = {
        name.removeprefix("FINETUNE_").lower(): _value(text)
        for name, text in given.items()
        if name.startswith("FINETUNE_")
    }
    return JobSpec(
        id=tune.id,
        person_id="",
        created_at=created(tune.finetune),
        bot=str(config.get("bot") or marks.labels(tune.finetune).get(marks.BOT, "")),
        base=local_name(str(config.get("base", ""))),
        training_file=str(config.get("data", "")),
        validation_file=str(config["validation"]) if config.get("validation") else None,
        hyperparameters={"n_epochs": _number(config, "epochs"), "batch_size": _number(config, "batch_size")},
        seed=int(config.get("seed") or 0),
        metadata=config["metadata"] if isinstance(config.get("metadata"), dict) else None,
        config=config,
        regression_set="",
        held_out_rows=1 if tune.held_out else 0,
    )


def _value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _number(config: Mapping[str, Any], key: str) -> Any:
    value = config.get(key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else "auto"


def status(tune: FineTune, result: Mapping[str, Any]) -> JobStatus:
    """How far a fine-tune is; ``result`` is what jobs.finetune left in the store, empty before its end."""
    first = _state_of(tune, tune.finetune, "finetune")
    if first.state != "succeeded":
        return first
    known = first.model_copy(
        update={
            "version": result.get("version"),
            "trained_tokens": result.get("trained_tokens"),
            "left_out": result.get("left_out", ""),
        }
    )
    if known.version is None and spec(tune).bot:
        sentence = "jobs.finetune ended well and left no version in STORE_URL: do its pods have control's?"
        return known.model_copy(
            update={"state": "failed", "error": JobError(code="not_registered", message=sentence)}
        )
    if known.version is None or tune.held_out is None:
        return known
    if tune.evaluate is None:
        return known.model_copy(update={"state": "running", "step": "evaluate", "finished_at": None})
    second = _state_of(tune, tune.evaluate, "evaluate")
    done = [*known.done, *second.done]
    state = "running" if second.state == "queued" else second.state
    return known.model_copy(
        update={
            "state": state,
            "step": None if second.finished_at else "evaluate",
            "done": done,
            "finished_at": second.finished_at,
            "error": second.error,
        }
    )


def _state_of(tune: FineTune, job: Object, step: marks.Step) -> JobStatus:
    """One Job by itself."""
    ended, pods = end(job), tune.pods_of(job)
    began = [began for pod in pods if (began := started(pod))]
    # A pod that ended is followed by another, or by the Job's end; one that is pending waits for a card.
    waiting = not pods or pods[-1].get("status", {}).get("phase") in (None, "Pending")
    status = JobStatus(
        state="queued" if waiting else "running",
        step=step,
        launched_at=created(job),
        started_at=min(began, default=None),
    )
    if ended is None:
        return status
    finished = {"step": None, "finished_at": seconds(ended.get("lastTransitionTime"))}
    if ended["type"] == "Complete":
        return status.model_copy(update=finished | {"state": "succeeded", "done": [step]})
    return status.model_copy(update=finished | {"state": "failed", "error": _error(ended, pods, step, job)})


def end(job: Object) -> Object | None:
    """The condition that the Job ended with; None before."""
    return condition(job, "Complete") or condition(job, "Failed")


def condition(job: Object, kind: str) -> Object | None:
    """The Job's condition of that type, where it holds."""
    conditions: list[Object] = job.get("status", {}).get("conditions") or []
    return next((one for one in conditions if one["type"] == kind and one["status"] == "True"), None)


def started(pod: Object) -> float | None:
    """When the pod's own container began, after those that prepare it."""
    for one in pod.get("status", {}).get("containerStatuses") or []:
        for state in (one.get("state") or {}).values():
            if at := state.get("startedAt"):
                return seconds(at)
    return None


def ended_at(pod: Object) -> float | None:
    """When the pod's own container ended; None while it runs."""
    statuses = pod.get("status", {}).get("containerStatuses") or []
    ends = [seconds(((one.get("state") or {}).get("terminated") or {}).get("finishedAt")) for one in statuses]
    return max((end for end in ends if end), default=None)


def terminated(pod: Object) -> list[Object]:
    """How the pod's containers ended, those that prepare it included; well-ended ones are left out."""
    status = pod.get("status", {})
    containers = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    ended = [(one.get("state") or {}).get("terminated") for one in containers]
    return [one for one in ended if one and one.get("exitCode")]


def _error(ended: Object, pods: list[Object], step: marks.Step, job: Object) -> JobError:
    """The step's own sentence (``error: ...``) where its pod left one, else what Kubernetes says."""
    name = job["metadata"]["name"]
    if ended.get("reason") == "DeadlineExceeded":
        limit = job["spec"].get("activeDeadlineSeconds")
        sentence = f"{step} took longer than its Job may ({limit} s, jobs.deadlineSeconds)"
        return JobError(code="deadline_exceeded", message=sentence)
    last = next((end for pod in reversed(pods) for end in reversed(terminated(pod))), None)
    if last is None:
        return JobError(code="step_failed", message=f"{step}: {ended.get('message') or ended.get('reason')}")
    code, message = last["exitCode"], last.get("message") or ""
    if code in ERROR_CODES:
        # What a container said last is kept up to 2 KiB, so the sentence's beginning may be cut off.
        return JobError(code=ERROR_CODES[code], message=f"{step}: {message.rpartition('error: ')[2].strip()}")
    if code == EXIT_AWAY and (away := said_last(message)):
        return JobError(code="step_failed", message=f"{step}: {away}")
    why = f" ({last['reason']})" if last.get("reason") not in (None, "Error") else ""
    return JobError(
        code="step_failed", message=f"{step} ended with exit code {code}{why}: see kubectl logs job/{name}"
    )
