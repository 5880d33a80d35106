"""Fine-tunes on this machine: one folder a job, one detached supervisor a running job, one job at a time.

Nothing is kept in memory: a restarted control finds every job in its folder, and the supervisor
(``services.control.local_job``) goes on meanwhile. A supervisor that was killed is noticed by its pid and
start time; its job is started once more by the same command, which resumes from its checkpoint.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from common import logging
from services.control import processes
from services.control.job_folder import JobFolder
from services.control.runner import FINISHED, Job, JobError, JobEvent, JobSpec, JobStatus, RetrainRun
from services.control.settings import ROOT

ATTEMPTS = 2
LAUNCH_SECONDS = 60.0
"""A supervisor that has not reported after so long never will."""

# What a job must not inherit: control's own secrets, and settings that would win over its configuration.
_SECRETS = frozenset({"ADMIN_PASSWORD", "ADMIN_USERNAME", "API_KEY", "DATABASE_URL", "JWT_SECRET_KEY"})
_PREFIXES = ("FINETUNE_", "EVALUATE_")


class LocalRunner:
    """A ``Runner`` whose jobs are below ``folder``; ``environment`` is added to what they inherit.

    ``root`` is the folder that the packages ``services`` and ``jobs`` are imported from.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str], root: Path = ROOT) -> None:
        self.folder = folder
        self._root = root
        self._environment = dict(environment)
        self._lock = threading.Lock()
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def check(self, spec: JobSpec) -> None:
        """Whatever this machine's card is, jobs.finetune itself plans for it, and says what would fit."""

    def start(self, spec: JobSpec, inputs: Path) -> None:
        """Queue the job; the next ``tick`` starts it when no other runs."""
        self.folder.mkdir(parents=True, exist_ok=True)
        inputs.rename(self.folder / spec.id)
        self._job(spec.id).create(spec)

    def get(self, job_id: str) -> Job | None:
        """One job; None when there is none of that id."""
        # An id comes from a URL: only the name of a folder that is there is believed.
        return self._job(job_id).read() if job_id in self._ids() else None

    def list(self) -> list[Job]:
        """Every job, the newest first."""
        jobs = [job for job_id in self._ids() if (job := self._job(job_id).read())]
        return sorted(jobs, key=lambda job: (job.spec.created_at, job.spec.id), reverse=True)

    def cancel(self, job_id: str) -> Job | None:
        """Stop a job that has not ended, with every process it started; returns once they are gone."""
        with self._lock:
            job = self.get(job_id)
            if job is None or job.status.state in FINISHED:
                return job
            folder = self._job(job_id)
            processes.kill_marked(folder.path)
            if folder.status().state not in FINISHED:  # it may have ended by itself just before
                folder.update(state="cancelled", finished_at=time.time())
                folder.record("The job was cancelled.", "warn")
            return folder.read()

    def events(self, job_id: str) -> Sequence[JobEvent]:
        """What happened so far, the oldest first."""
        return self._job(job_id).events()

    def results(self, job_id: str) -> bytes | None:
        """The figures of every step as JSON Lines, None before the first."""
        try:
            return (self._job(job_id).output / "metrics.jsonl").read_bytes()
        except FileNotFoundError:
            return None

    def forget_rows(self, job_id: str) -> None:
        """Remove every row, answer and log that a job which has ended keeps; its record and figures stay."""
        if job_id in self._ids():
            self._job(job_id).forget_rows()

    def retrain(self, request: RetrainRun) -> None:
        """Run ``jobs.retrain`` once, beside control; its log lies in ``retrains``."""
        folder = self.folder / "retrains"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{request.id}.log").open("ab") as log, self._lock:
            self._children[request.id] = subprocess.Popen(
                [sys.executable, "-m", "jobs.retrain"],
                cwd=self._root,
                env=self._job_environment(folder) | request.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        logging.get("system").info("retrain asked for", retrain=request.id, bot=request.bot)

    def tick(self) -> None:
        """See to supervisors that died, then start the oldest queued job unless one is under way."""
        with self._lock:
            self._reap()
            jobs = self.list()
            for job in jobs:
                if job.status.state in ("starting", "running") and self._dead(job.status):
                    self._rescue(job)
            if not any(job.status.state in ("starting", "running") for job in self.list()):
                queued = [job for job in jobs if job.status.state == "queued"]
                if queued:
                    self._launch(queued[-1].spec.id, attempt=1)

    def _job(self, job_id: str) -> JobFolder:
        return JobFolder(self.folder / job_id)

    def _ids(self) -> set[str]:
        if not self.folder.is_dir():
            return set()
        return {entry.name for entry in os.scandir(self.folder) if entry.name.startswith("ftjob-")}

    def _reap(self) -> None:
        for job_id in [job_id for job_id, child in self._children.items() if child.poll() is not None]:
            del self._children[job_id]

    def _dead(self, status: JobStatus) -> bool:
        if status.state == "starting":
            return time.time() > (status.launched_at or 0) + LAUNCH_SECONDS
        return not processes.alive(status.supervisor)

    def _rescue(self, job: Job) -> None:
        folder = self._job(job.spec.id)
        # Read again: it may have ended well between the first reading and the look at its process.
        if folder.status().state in FINISHED:
            return
        processes.kill_marked(folder.path, grace_seconds=2.0)  # what the dead supervisor left running
        if job.status.attempt < ATTEMPTS:
            folder.record("The job's supervisor was gone: it is started again and resumes.", "warn")
            self._launch(job.spec.id, job.status.attempt + 1)
            return
        sentence = f"The job's supervisor was killed {ATTEMPTS} times: see {folder.log('supervisor')}."
        error = JobError(code="supervisor_killed", message=sentence)
        folder.update(state="failed", finished_at=time.time(), error=error)
        folder.record(sentence, "error")

    def _launch(self, job_id: str, attempt: int) -> None:
        folder = self._job(job_id)
        folder.update(state="starting", attempt=attempt, launched_at=time.time(), supervisor=None)
        with folder.log("supervisor").open("ab") as log:
            self._children[job_id] = subprocess.Popen(
                [sys.executable, "-m", "services.control.local_job", str(folder.path), str(attempt)],
                cwd=self._root,
                env=self._job_environment(folder.path),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        logging.get("system").info("fine-tune started", job_id=job_id, attempt=attempt)

    def _job_environment(self, folder: Path) -> dict[str, str]:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name not in _SECRETS and not name.startswith(_PREFIXES)
        }
        given = {name: value for name, value in self._environment.items() if value}
        return inherited | given | {processes.MARK: str(folder)}
