"""What is told of fine-tunes that are under way: gathered every few seconds, kept before its source is gone.

Pods that are preempted take their logs along, and Kubernetes keeps events for an hour.
"""

import threading
import time
from typing import Any

from services.control.kubernetes import reading, story
from services.control.kubernetes.api import Cluster
from services.control.kubernetes.marks import Object
from services.control.kubernetes.reading import FineTune
from services.control.kubernetes.records import Records
from services.control.runner import FINISHED, JobEvent, JobStatus

LOOK_SECONDS = 5.0
"""Time between two looks at one fine-tune's logs, unless somebody asks."""
OVERLAP_SECONDS = 5
"""A log is read again from so long before the last look: steps are told apart by their numbers."""


class _Told:
    """What is known of one fine-tune."""

    def __init__(self, told: story.Told) -> None:
        self.told = told
        self.steps: dict[int, dict[str, Any]] = {}
        self.read: dict[str, float] = {}
        """When each pod's log was read last."""
        self.looked = 0.0


class Watch:
    """Gathers the events of fine-tunes. Everything in memory can be gathered again, from logs and store."""

    def __init__(self, cluster: Cluster, records: Records) -> None:
        self._cluster = cluster
        self._records = records
        self._known: dict[str, _Told] = {}
        self._lock = threading.Lock()

    def look(self, tune: FineTune, status: JobStatus) -> None:
        """Gather what is new, if it is time to."""
        with self._lock:
            if time.monotonic() - self._of(tune.id).looked >= LOOK_SECONDS:
                self._gather(tune, status)

    def events(self, tune: FineTune, status: JobStatus) -> list[JobEvent]:
        """Everything that happened so far, the oldest first."""
        with self._lock:
            known = self._gather(tune, status)
            # Who sees that it has ended sees how, also in the moment before that is kept.
            told = known.told | (story.ending(status) if status.state in FINISHED else {})
            return _in_order(told, list(known.steps.values()))

    def steps(self, job_id: str) -> list[dict[str, Any]]:
        """The steps of the training so far, in order."""
        with self._lock:
            return [step for _, step in sorted(self._of(job_id).steps.items())]

    def end(self, tune: FineTune, status: JobStatus) -> None:
        """Gather for the last time, and keep all of it."""
        with self._lock:
            known = self._gather(tune, status)
            known.told |= story.ending(status)
            self._records.keep_events(tune.id, known.told)
            if known.steps and self._records.metrics(tune.id) is None:
                self._records.keep_metrics(tune.id, [step for _, step in sorted(known.steps.items())])

    def forget(self, job_id: str) -> None:
        """Let go of a fine-tune that has ended."""
        with self._lock:
            self._known.pop(job_id, None)

    def _of(self, job_id: str) -> _Told:
        if job_id not in self._known:
            self._known[job_id] = _Told(self._records.events(job_id))
        return self._known[job_id]

    def _gather(self, tune: FineTune, status: JobStatus) -> _Told:
        known = self._of(tune.id)
        known.looked = time.monotonic()
        found = story.told_by_objects(tune, status)
        for pod in tune.pods_of(tune.finetune):
            found |= self._read(pod, known)
        found |= story.told_by_kubernetes(tune, self._cluster.events())
        fresh = {key: event for key, event in found.items() if key not in known.told}
        if fresh:
            known.told |= fresh
            self._records.keep_events(tune.id, known.told)
        return known

    def _read(self, pod: Object, known: _Told) -> story.Told:
        """Take in what the pod's trainer printed since the last look."""
        uid, now = pod["metadata"]["uid"], time.time()
        last = known.read.get(uid)
        ended = reading.ended_at(pod)
        if reading.started(pod) is None or (last and ended and last > ended + OVERLAP_SECONDS):
            return {}
        since = int(now - last) + OVERLAP_SECONDS if last else None
        log = self._cluster.log(pod["metadata"]["name"], "finetune", since)
        if log is None:
            return {}
        known.read[uid] = now
        known.steps |= {step["step"]: step for step in story.steps_in(log)}
        return story.restarts_in(log, uid)


def recorded(told: story.Told, metrics: bytes | None) -> list[JobEvent]:
    """The events of a fine-tune that has ended, as they were kept."""
    return _in_order(told, story.steps_of(metrics or b""))


def _in_order(told: story.Told, steps: list[dict[str, Any]]) -> list[JobEvent]:
    events = [*told.values(), *story.metrics_events(steps)]
    return sorted(events, key=lambda event: event.created_at)
