"""What outlives a Kubernetes Job, in the object store, and the rows that travel through it to the pods.

jobs/<job>/...                               the rows and checkpoints of a job that has not ended
results/<job>/job.json, events.jsonl         what control knows of it
results/<job>/result.json, metrics.jsonl     what jobs.finetune left at its end
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.storage import Store
from services.control.kubernetes import story
from services.control.runner import FINISHED, Job

RECORD = "job.json"


class Records:
    """The records in one store, opened when it is first asked for. Calls block.

    Records that are known are held in memory, where they can only be as they are in the store: control, which
    is one process, is the only one that writes them, and a trainer writes its result once.
    """

    def __init__(self, open_store: Callable[[], Store]) -> None:
        self._open = open_store
        self._opened: Store | None = None
        self._known: dict[str, Job] | None = None
        self._results: dict[str, dict[str, Any]] = {}

    def all(self) -> dict[str, Job]:
        """Every job that was ever seen, by id."""
        if self._known is None:
            keys = [key for key in self._store.list("results") if key.endswith(f"/{RECORD}")]
            read = [Job.model_validate_json(self._store.get_bytes(key)) for key in keys]
            self._known = {job.spec.id: job for job in read}
        return dict(self._known)

    def ended(self, job_id: str) -> Job | None:
        """The record of a job that has ended."""
        job = self.all().get(job_id)
        return job if job and job.status.state in FINISHED else None

    def write(self, job: Job) -> None:
        """Keep a job as it is now."""
        known = self.all()
        self._store.put_bytes(job.model_dump_json(indent=2).encode(), f"results/{job.spec.id}/{RECORD}")
        self._known = known | {job.spec.id: job}
        if job.status.state in FINISHED:
            self._results.pop(job.spec.id, None)

    def events(self, job_id: str) -> story.Told:
        """The events that were kept."""
        data = self._read(f"results/{job_id}/events.jsonl")
        return story.load(data) if data else {}

    def keep_events(self, job_id: str, told: story.Told) -> None:
        """Keep a job's events."""
        self._store.put_bytes(story.dump(told), f"results/{job_id}/events.jsonl")

    def result(self, job_id: str) -> dict[str, Any]:
        """What jobs.finetune ended with; empty before."""
        if job_id not in self._results and (data := self._read(f"results/{job_id}/result.json")):
            self._results[job_id] = json.loads(data)
        return dict(self._results.get(job_id, {}))

    def metrics(self, job_id: str) -> bytes | None:
        """The steps of the training as JSON Lines."""
        return self._read(f"results/{job_id}/metrics.jsonl")

    def keep_metrics(self, job_id: str, steps: list[dict[str, Any]]) -> None:
        """Keep the steps of a training that left none itself."""
        data = "".join(json.dumps(step) + "\n" for step in steps)
        self._store.put_bytes(data.encode(), f"results/{job_id}/metrics.jsonl")

    def hand_over(self, job_id: str, file: Path) -> str:
        """Put a file of rows where the job's pods can read it; its address."""
        key = f"jobs/{job_id}/{file.name}"
        self._store.put_file(file, key)
        return self._store.uri(key)

    def drop_inputs(self, job_id: str) -> None:
        """Remove a job's rows and checkpoints: people's words stay nowhere that erasure does not know."""
        self._store.delete(f"jobs/{job_id}")

    def _read(self, key: str) -> bytes | None:
        try:
            return self._store.get_bytes(key)
        except FileNotFoundError:
            return None

    @property
    def _store(self) -> Store:
        if self._opened is None:
            self._opened = self._open()
        return self._opened
