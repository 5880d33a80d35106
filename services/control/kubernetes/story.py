"""A fine-tune's events: what its Jobs and pods say, what Kubernetes reported, what its training printed."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from services.control.kubernetes import marks, reading
from services.control.kubernetes.marks import Object
from services.control.kubernetes.reading import FineTune
from services.control.runner import ERROR_CODES, NOTHING_TO_JUDGE_ON, JobEvent, JobStatus, step_event

Level = Literal["info", "warn", "error"]
VOLUME_COMES = "waiting for ephemeral volume controller"
Told = dict[str, JobEvent]
"""Events by what makes each one itself, so that telling a story again adds nothing."""


def told_by_objects(tune: FineTune, status: JobStatus) -> Told:
    """What happened, as the Jobs and pods that are there say it."""
    told = {"queued": _event(reading.created(tune.finetune), "The job is queued.")}
    for job in tune.jobs():
        step = marks.step(job)
        for pod in tune.pods_of(job):
            told |= _told_by_pod(pod, step, ended=reading.end(job) is not None)
    if status.version:
        at = reading.seconds((reading.condition(tune.finetune, "Complete") or {}).get("lastTransitionTime"))
        if status.left_out:
            told["left_out"] = _event(at or 0.0, status.left_out, "warn")
        told["registered"] = _event(at or 0.0, f"Version {status.version} is registered.")
        if tune.held_out is None:
            told["unjudged"] = _event(at or 0.0, NOTHING_TO_JUDGE_ON, "warn")
    return told


def ending(status: JobStatus) -> Told:
    """The last event of a fine-tune that has ended."""
    at = status.finished_at or 0.0
    if status.state == "cancelled":
        return {"end": _event(at, "The job was cancelled.", "warn")}
    if status.error:
        return {"end": _event(at, status.error.message, "error")}
    return {"end": _event(at, "The job is done.")}


def told_by_kubernetes(tune: FineTune, events: Iterable[Object]) -> Told:
    """Kubernetes' warnings about the Jobs and their pods, such as that no node has a card free.

    That a volume of the pod's own is being made is none: it comes with every pod.
    """
    mine = {thing["metadata"]["uid"] for job in tune.jobs() for thing in (job, *tune.pods_of(job))}
    return {
        event["metadata"]["uid"]: _event(
            _time_of(event), f"{event.get('reason')}: {event.get('message', '').strip()}", "warn"
        )
        for event in events
        if event.get("type") == "Warning"
        and event.get("involvedObject", {}).get("uid") in mine
        and VOLUME_COMES not in event.get("message", "")
    }


def steps_in(log: str) -> Iterator[dict[str, Any]]:
    """The training's steps among a pod's log lines, as metrics.jsonl has them."""
    for line in _json_lines(log):
        if line.get("stream") == "training" and line.get("event") == "step" and "step" in line:
            yield {
                "step": line["step"],
                "epoch": line.get("epoch"),
                "loss": line.get("loss"),
                "learning_rate": line.get("learning_rate"),
                "tokens_per_second": line.get("tokens_per_second"),
                "gpu_memory": line.get("gpu_memory"),
                "time": reading.seconds(line.get("timestamp")) or 0.0,
            }


def restarts_in(log: str, pod: str) -> Told:
    """When the trainer was started again inside its pod."""
    told = {}
    for line in _json_lines(log):
        if line.get("component") == "restart" and line.get("event") == "restarted":
            code, attempt = line.get("exit_code"), line.get("attempt")
            sentence = f"The trainer ended with exit code {code} and starts again in its pod: try {attempt}."
            told[f"{pod}-restart-{attempt}"] = _event(
                reading.seconds(line.get("timestamp")) or 0.0, sentence, "warn"
            )
    return told


def metrics_events(steps: Iterable[dict[str, Any]]) -> list[JobEvent]:
    """One event a step."""
    return [step_event(step, 0.0) for step in steps]


def steps_of(metrics: bytes) -> list[dict[str, Any]]:
    """The steps in a metrics.jsonl; its last line may be half written."""
    return [json.loads(line) for line in metrics.splitlines(keepends=True) if line.endswith(b"\n")]


def dump(told: Told) -> bytes:
    """The events as JSON Lines, each with its key."""
    lines = (json.dumps({"key": key} | event.model_dump()) + "\n" for key, event in told.items())
    return "".join(lines).encode()


def load(data: bytes) -> Told:
    """What ``dump`` wrote."""
    lines = [json.loads(line) for line in data.splitlines()]
    return {line.pop("key"): JobEvent.model_validate(line) for line in lines}


def _told_by_pod(pod: Object, step: str, *, ended: bool) -> Told:
    uid, node = pod["metadata"]["uid"], pod["spec"].get("nodeName", "a node")
    told = {}
    if began := reading.started(pod):
        told[f"{uid}-began"] = _event(began, f"Step {step} began on {node}.")
    conditions = pod.get("status", {}).get("conditions") or []
    disrupted = next((one for one in conditions if one["type"] == "DisruptionTarget"), None)
    if disrupted:
        at = reading.seconds(disrupted.get("lastTransitionTime")) or 0.0
        why = disrupted.get("message") or disrupted.get("reason")
        told[f"{uid}-ended"] = _event(at, f"Step {step} lost its pod on {node}: {why}", "warn")
    elif not ended and (ends := reading.terminated(pod)) and ends[-1]["exitCode"] not in ERROR_CODES:
        at, code = reading.seconds(ends[-1].get("finishedAt")) or 0.0, ends[-1]["exitCode"]
        sentence = f"Step {step} ended with exit code {code} on {node}: another pod resumes it."
        told[f"{uid}-ended"] = _event(at, sentence, "warn")
    return told


def _time_of(event: Object) -> float:
    at = event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp")
    return reading.seconds(at) or 0.0


def _event(at: float, message: str, level: Level = "info") -> JobEvent:
    return JobEvent(created_at=at, level=level, message=message)


def _json_lines(log: str) -> Iterator[dict[str, Any]]:
    for line in log.splitlines():
        if line.startswith("{"):
            try:
                yield json.loads(line)
            except ValueError:  # a line that was cut, or another program's
                continue
