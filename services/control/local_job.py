"""The supervisor of one local fine-tune: ``python -m services.control.local_job FOLDER ATTEMPT``.

Runs ``jobs.finetune`` and then ``jobs.evaluate``, writing how far it is into the folder. It is a process of
its own, so that a fine-tune of hours outlives control's restarts. Started again on the same folder it leaves
out what is done; ``jobs.finetune`` itself resumes from its last checkpoint.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from common.errors import EXIT_AWAY
from services.control import processes
from services.control.job_folder import HELD_OUT, JobFolder
from services.control.runner import ERROR_CODES, NOTHING_TO_JUDGE_ON, JobError, JobSpec, said_last

FINETUNE = "finetune"
EVALUATE = "evaluate"
TRIES = 3
"""A step that fails for no reason of configuration or data is run again: it resumes."""
PAUSE = 3.0
"""Seconds before the second try, for what is away to come back; each later one waits twice as long."""


class StepFailed(Exception):
    """A step ended badly; ``error`` says why in a sentence."""

    def __init__(self, error: JobError) -> None:
        super().__init__(error.message)
        self.error = error


def main(path: str, attempt: str) -> None:
    """See one attempt of the job in folder ``path`` to its end."""
    folder = JobFolder(Path(path))
    status = folder.status()
    if status.state != "starting" or status.attempt != int(attempt):
        return  # the runner gave this attempt up, or the job was cancelled
    me = processes.identify(os.getpid())
    started = status.started_at or time.time()
    folder.write(status.model_copy(update={"state": "running", "supervisor": me, "started_at": started}))
    try:
        _run_steps(folder)
    except StepFailed as failure:
        folder.record(failure.error.message, "error")
        folder.update(state="failed", step=None, finished_at=time.time(), error=failure.error)
    else:
        folder.record("The job is done.")
        folder.update(state="succeeded", step=None, finished_at=time.time())


def finetune_command(folder: JobFolder) -> list[str]:
    """What runs the first step."""
    return [sys.executable, "-m", "jobs.finetune", "--config", str(folder.config)]


def evaluate_command(folder: JobFolder, spec: JobSpec, version: str) -> list[str]:
    """What runs the second step; rows are cut as in training."""
    options = {
        "--version": version,
        "--data": str(folder.path / HELD_OUT),
        "--regression": spec.regression_set,
        "--vllm-url": os.environ["VLLM_BASE_URL"],
        "--output": str(folder.evaluation),
    }
    if "max_length" in spec.config:
        options["--max-length"] = str(spec.config["max_length"])
    words = [word for pair in options.items() for word in pair]
    switches = [f"--{name.replace('_', '-')}" for name in ("truncate", "leave_out") if spec.config.get(name)]
    return [sys.executable, "-m", "jobs.evaluate", *words, *switches]


def _run_steps(folder: JobFolder) -> None:
    job = folder.read()
    assert job is not None
    if FINETUNE not in job.status.done:
        _run(folder, FINETUNE, finetune_command(folder))
        _keep_result(folder)
    version = folder.status().version
    if version is None:
        raise StepFailed(JobError(code="not_registered", message="jobs.finetune registered no version."))
    if job.spec.held_out_rows == 0:
        folder.record(NOTHING_TO_JUDGE_ON, "warn")
    elif EVALUATE not in job.status.done:
        _run(folder, EVALUATE, evaluate_command(folder, job.spec, version))


def _keep_result(folder: JobFolder) -> None:
    result = folder.result()
    folder.update(version=result.get("version"), trained_tokens=result.get("trained_tokens"))
    if result.get("left_out"):
        folder.record(result["left_out"], "warn")
    folder.record(f"Version {result.get('version')} is registered.")


def _run(folder: JobFolder, step: str, command: list[str]) -> None:
    folder.update(step=step)
    folder.record(f"Step {step} began.")
    code = 0
    for attempt in range(1, TRIES + 1):
        code = _run_once(folder, step, command)
        if code == 0:
            folder.update(done=[*folder.status().done, step])
            return
        if code in ERROR_CODES:
            break
        if attempt < TRIES:
            folder.record(f"Step {step} ended with exit code {code}: it is run again and resumes.", "warn")
            time.sleep(PAUSE * 2 ** (attempt - 1))
    raise StepFailed(_explain(folder, step, code))


def _run_once(folder: JobFolder, step: str, command: list[str]) -> int:
    with folder.log(step).open("ab") as log:
        return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log).returncode


def _explain(folder: JobFolder, step: str, code: int) -> JobError:
    """The step's own sentence (``error: ...``) where it left one, else where its log is."""
    text = folder.log(step).read_text(errors="replace")
    _, found, sentence = f"\n{text}".rpartition("\nerror: ")
    if found and code in ERROR_CODES:
        return JobError(code=ERROR_CODES[code], message=f"{step}: {sentence.strip()}")
    if code == EXIT_AWAY and (away := said_last(text)):
        return JobError(code="step_failed", message=f"{step}: {away}")
    return JobError(code="step_failed", message=f"{step} ended with exit code {code}: see {folder.log(step)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
