"""Fine-tunes as Kubernetes Jobs, two for each: one that holds a GPU, and one that judges and holds none.

The Jobs are the record, whoever made them; what is kept in memory here only saves asking again, and a
restarted control finds everything. Before its Jobs go (TTL, cancel, kubectl delete) the story of a fine-tune
is in the object store, where it is still listed.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common import logging
from common.errors import UserError
from services.control.bases import Base, find_base
from services.control.job_folder import HELD_OUT, TRAIN
from services.control.kubernetes import manifest, reading, watch
from services.control.kubernetes.api import ApiRefused, Cluster, ClusterUnavailable
from services.control.kubernetes.manifest import Templates
from services.control.kubernetes.placement import Placement
from services.control.kubernetes.reading import FineTune
from services.control.kubernetes.records import Records
from services.control.kubernetes.watch import Watch
from services.control.runner import FINISHED, Job, JobError, JobEvent, JobSpec, JobStatus, RetrainRun

GONE_SECONDS = 90.0
"""How long a cancelled job's pods may take to go; their grace period is 30 s."""


@dataclass(frozen=True)
class Chart:
    """What the chart says of this installation's fine-tunes."""

    templates: Templates
    bases: Sequence[Base]
    placement: Placement


class KubernetesRunner:
    """A ``Runner`` on a cluster."""

    def __init__(self, cluster: Cluster, records: Records, chart: Chart) -> None:
        self._cluster = cluster
        self._records = records
        self._chart = chart
        self._watch = Watch(cluster, records)
        self._lock = threading.Lock()
        self._without_figures: set[str] = set()

    def check(self, spec: JobSpec) -> None:
        """Refuse what no card of this cluster can train, before anything is made."""
        if manifest.asks_for_gpu(self._chart.templates.read("finetune")):
            self._chart.placement.affinity(spec)

    def start(self, spec: JobSpec, inputs: Path) -> None:
        """Hand the rows over and make the first Job; Kubernetes starts it when there is a card."""
        base = find_base(spec.base, self._chart.bases)
        held_out = self._records.hand_over(spec.id, inputs / HELD_OUT) if spec.held_out_rows else None
        places = {"FINETUNE_DATA": self._records.hand_over(spec.id, inputs / TRAIN)}
        if spec.validation_file and held_out:
            places["FINETUNE_VALIDATION"] = held_out
        job = manifest.finetune_job(self._chart.templates.read("finetune"), spec, places, held_out)
        manifest.set_base(job, base.source, base.revision)
        if manifest.asks_for_gpu(job):
            manifest.place(job, self._chart.placement.affinity(spec))
        manifest.own(job, self._cluster.owner())
        try:
            self._cluster.create(job)
        except ApiRefused as refused:
            self._records.drop_inputs(spec.id)
            raise UserError(f"Kubernetes does not take the Job: {refused.message}") from None
        logging.get("system").info("fine-tune created", job_id=spec.id, bot=spec.bot)

    def get(self, job_id: str) -> Job | None:
        """One job; None when there is none of that id."""
        return next((job for job in self.list() if job.spec.id == job_id), None)

    def list(self) -> list[Job]:
        """Every job, also those that kubectl made and those whose Jobs are gone, the newest first."""
        # Of one that has ended the record is told, and its Job, which stays for days, is not read again.
        going = {
            job_id: job
            for job_id, tune in self._tunes().items()
            if not self._records.ended(job_id) and (job := self._read(tune))
        }
        known = self._records.all() | going
        return sorted(known.values(), key=lambda job: (job.spec.created_at, job.spec.id), reverse=True)

    def cancel(self, job_id: str) -> Job | None:
        """Stop a job that has not ended: its Jobs are deleted; returns once its pods are gone."""
        with self._lock:
            tune = self._tunes().get(job_id)
            job = self._read(tune) if tune else None
            if tune is None or job is None or job.status.state in FINISHED:
                return self.get(job_id)
            # Written before anything is deleted: whoever finds the Jobs still there knows what was meant.
            cancelled = {"state": "cancelled", "step": None, "finished_at": time.time()}
            self._end(tune, job.model_copy(update={"status": job.status.model_copy(update=cancelled)}))
        self._remove(tune)
        return self.get(job_id)

    def events(self, job_id: str) -> Sequence[JobEvent]:
        """What happened so far, the oldest first."""
        tune = None if self._records.ended(job_id) else self._tunes().get(job_id)
        if tune is not None:
            return self._watch.events(tune, self._status(tune))
        return watch.recorded(self._records.events(job_id), self._records.metrics(job_id))

    def results(self, job_id: str) -> bytes | None:
        """The figures of every step as JSON Lines, None before the first."""
        if job_id in self._without_figures:
            return None
        figures = self._records.metrics(job_id)
        if figures is None and self._records.ended(job_id):
            self._without_figures.add(job_id)  # asked for every second otherwise
        return figures

    def forget_rows(self, job_id: str) -> None:
        """Remove every row that a job which has ended keeps; its record and figures stay."""
        self._records.drop_inputs(job_id)

    def retrain(self, request: RetrainRun) -> None:
        """Make one Job of the CronJob's kind."""
        job = manifest.retrain_job(self._chart.templates.read("retrain"), request)
        manifest.own(job, self._cluster.owner())
        self._cluster.create(job)
        logging.get("system").info("retrain asked for", retrain=request.id, bot=request.bot)

    def tick(self) -> None:
        """Look after the jobs: let those judge that have trained, keep what has ended."""
        with self._lock:
            tunes = self._tunes()
            for tune in tunes.values():
                try:
                    self._see_to(tune)
                except UserError as error:  # its own; the others go on
                    logging.get("system").error("fine-tune", job_id=tune.id, error=str(error))
            for job_id, job in self._records.all().items():
                if job.status.state not in FINISHED and job_id not in tunes:
                    self._close(job)

    def _tunes(self) -> dict[str, FineTune]:
        return reading.group(self._cluster.jobs(), self._cluster.pods())

    def _status(self, tune: FineTune) -> JobStatus:
        trained = reading.condition(tune.finetune, "Complete")
        return reading.status(tune, self._records.result(tune.id) if trained else {})

    def _read(self, tune: FineTune) -> Job | None:
        try:
            return Job(spec=reading.spec(tune), status=self._status(tune))
        except ValueError as error:  # a Job that somebody else made, with values that are none
            name = tune.finetune["metadata"]["name"]
            logging.get("system").warning("fine-tune left out", job=name, error=str(error))
            return None

    def _see_to(self, tune: FineTune) -> None:
        ended = self._records.ended(tune.id)
        if ended:
            if ended.status.state == "cancelled":  # control was stopped between writing so and deleting
                self._cluster.delete(tune.finetune["metadata"]["name"])
            return
        job = self._read(tune)
        if job is None:
            return
        if tune.id not in self._records.all():
            self._records.write(job)
        if job.status.step == "evaluate" and tune.evaluate is None:
            self._judge(tune, job)
        if job.status.state in FINISHED:
            self._end(tune, job)
            self._records.drop_inputs(tune.id)
        else:
            self._watch.look(tune, job.status)

    def _judge(self, tune: FineTune, job: Job) -> None:
        """Make the second Job."""
        assert job.status.version, "only what is registered is judged"
        assert tune.held_out, "only what has rows is judged"
        template = self._chart.templates.read("evaluate")
        self._cluster.create(
            manifest.evaluate_job(template, tune.finetune, job.spec, job.status.version, tune.held_out)
        )

    def _end(self, tune: FineTune, job: Job) -> None:
        """Keep a job that has ended, its record last: it makes the end known."""
        self._watch.end(tune, job.status)
        self._records.write(job)
        self._watch.forget(tune.id)

    def _close(self, job: Job) -> None:
        """Keep a job whose Jobs are gone although nobody saw it end."""
        result = self._records.result(job.spec.id)
        version = result.get("version")
        sentence = "Its Kubernetes Job is gone: it was deleted, or its time was over while control was away."
        status = job.status.model_copy(
            update={
                "state": "succeeded" if version else "cancelled",
                "step": None,
                "finished_at": time.time(),
                "version": version,
                "trained_tokens": result.get("trained_tokens"),
                "error": None if version else JobError(code="job_gone", message=sentence),
            }
        )
        told = self._records.events(job.spec.id)
        told["end"] = JobEvent(created_at=time.time(), level="warn", message=sentence)
        self._records.keep_events(job.spec.id, told)
        self._records.write(job.model_copy(update={"status": status}))
        self._records.drop_inputs(job.spec.id)
        self._watch.forget(job.spec.id)

    def _remove(self, tune: FineTune) -> None:
        """Delete a fine-tune's Jobs, and its rows once no pod can write beside them."""
        for job in tune.jobs():
            self._cluster.delete(job["metadata"]["name"])
        deadline = time.monotonic() + GONE_SECONDS
        while (left := self._tunes().get(tune.id)) and any(left.pods_of(job) for job in left.jobs()):
            if time.monotonic() > deadline:
                raise ClusterUnavailable(f"the pods of {tune.id} do not go: see kubectl get pods")
            time.sleep(0.5)
        self._records.drop_inputs(tune.id)
