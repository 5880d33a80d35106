"""A local fine-tune's folder, which is its whole record: whoever reads it knows everything about the job.

spec.json        what was asked for, written once
status.json      how far it is, replaced atomically
events.jsonl     what happened, appended
finetune.yaml    the configuration of jobs.finetune
train.jsonl, held_out.jsonl    the rows
finetune.log, evaluate.log     what the steps printed
output/          what jobs.finetune makes;  evaluation/  what jobs.evaluate makes
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import yaml

from services.control.runner import Job, JobEvent, JobSpec, JobStatus, step_event

TRAIN = "train.jsonl"
HELD_OUT = "held_out.jsonl"
_RECORD = ("spec.json", "status.json", "events.jsonl", "finetune.yaml")


class JobFolder:
    """Reads and writes one job's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "finetune.yaml"
        self.output = path / "output"
        self.evaluation = path / "evaluation"

    def create(self, spec: JobSpec) -> None:
        """Write down a new job as queued, beside its rows. The status comes last: it makes the job."""
        places = {"data": str(self.path / TRAIN), "output": str(self.output)}
        if spec.validation_file:
            places["validation"] = str(self.path / HELD_OUT)
        self.config.write_text(yaml.safe_dump(spec.config | places, sort_keys=False, allow_unicode=True))
        _replace(self.path / "spec.json", spec.model_dump_json(indent=2))
        self.record("The job is queued.")
        self.write(JobStatus(state="queued"))

    def read(self) -> Job | None:
        """The job; None when the folder holds none that was completely written."""
        try:
            spec = JobSpec.model_validate_json((self.path / "spec.json").read_bytes())
            return Job(spec=spec, status=self.status())
        except FileNotFoundError:
            return None

    def status(self) -> JobStatus:
        """How far the job is."""
        return JobStatus.model_validate_json((self.path / "status.json").read_bytes())

    def write(self, status: JobStatus) -> None:
        """Replace the status; a reader sees the old one or the new one."""
        _replace(self.path / "status.json", status.model_dump_json(indent=2))

    def update(self, **values: Any) -> JobStatus:
        """Change some of the status's values."""
        status = JobStatus.model_validate(self.status().model_dump() | values)
        self.write(status)
        return status

    def record(self, message: str, level: Literal["info", "warn", "error"] = "info") -> None:
        """Append an event."""
        event = JobEvent(created_at=time.time(), level=level, message=message)
        with (self.path / "events.jsonl").open("a", encoding="utf-8") as file:
            file.write(event.model_dump_json() + "\n")

    def events(self) -> list[JobEvent]:
        """Events and the training's steps, the oldest first."""
        told = [JobEvent.model_validate(line) for line in _lines(self.path / "events.jsonl")]
        began = next((event.created_at for event in told if "finetune" in event.message), 0.0)
        steps = [step_event(line, began) for line in self.metrics()]
        return sorted(told + steps, key=lambda event: event.created_at)

    def metrics(self) -> list[dict[str, Any]]:
        """One dictionary for each step of the training so far."""
        return list(_lines(self.output / "metrics.jsonl"))

    def result(self) -> dict[str, Any]:
        """What ``jobs.finetune`` wrote at its end; empty before."""
        try:
            return dict(json.loads((self.output / "result.json").read_bytes()))
        except (FileNotFoundError, ValueError):
            return {}

    def forget_rows(self) -> None:
        """Remove all but what was asked for, how it went and its figures."""
        kept = {self.path / name for name in _RECORD} | {self.output / "metrics.jsonl"}
        for path in sorted(self.path.rglob("*"), reverse=True):  # what is in a folder before the folder
            if path.is_file() and path not in kept:
                path.unlink()
            elif path.is_dir() and not any(path.iterdir()):
                path.rmdir()

    def log(self, step: str) -> Path:
        """Where a step's output goes."""
        return self.path / f"{step}.log"


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    for line in text.splitlines(keepends=True):
        if line.endswith("\n"):  # the last one may be half written
            yield json.loads(line)


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
