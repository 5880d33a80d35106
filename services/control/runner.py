"""What control asks of whatever runs fine-tunes, in the same words on one machine and on a cluster.

A fine-tune is two steps, ``finetune`` then ``evaluate``, and is running until the second ends. The runner's
own record is the truth about it: control keeps none beside it, so nothing can disagree after a restart.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from common.errors import EXIT_CONFIGURATION, EXIT_TOO_BIG

State = Literal["queued", "starting", "running", "succeeded", "failed", "cancelled"]
FINISHED: frozenset[State] = frozenset({"succeeded", "failed", "cancelled"})
ERROR_CODES = {EXIT_CONFIGURATION: "invalid_configuration", EXIT_TOO_BIG: "does_not_fit"}
"""What a step's exit code is in a ``JobError``; a step with another code is run again."""
NOTHING_TO_JUDGE_ON = "No row is held out, so there is nothing to judge on: a person decides."


class JobSpec(BaseModel):
    """What was asked for, as it is written down once; times are seconds since the epoch."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    person_id: str
    created_at: float
    bot: str
    base: str
    training_file: str
    validation_file: str | None
    hyperparameters: dict[str, float | int | Literal["auto"]]
    seed: int
    metadata: dict[str, str] | None
    config: dict[str, Any]
    """The values of ``common.finetune_config.FinetuneConfig``, but for where data and output lie."""
    regression_set: str
    held_out_rows: int
    """Rows that only ``evaluate`` sees; with none there is nothing to judge on."""
    node_class: str | None = None
    """The kind of card that was asked for; the planner chooses where none was."""


class JobError(BaseModel):
    """Why a fine-tune failed, in OpenAI's words: ``code``, and the sentence."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    code: str
    message: str


class JobStatus(BaseModel):
    """How far a fine-tune is. ``done`` names the steps that ended well, ``version`` what was registered."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    state: State
    attempt: int = 0
    step: str | None = None
    done: list[str] = []
    launched_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    supervisor: tuple[int, str] | None = None
    """The pid and start time of the process that sees to it, on the machine where it runs."""
    error: JobError | None = None
    version: str | None = None
    trained_tokens: int | None = None
    left_out: str = ""
    """Which rows were left out and why, in a sentence."""


class JobEvent(BaseModel):
    """One line of a fine-tune's story; ``data`` holds a step's figures where ``type`` is ``metrics``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    created_at: float
    level: Literal["info", "warn", "error"] = "info"
    message: str
    type: Literal["message", "metrics"] = "message"
    data: dict[str, Any] | None = None


class Job(BaseModel):
    """One fine-tune: what was asked for and how far it is."""

    model_config = ConfigDict(frozen=True)

    spec: JobSpec
    status: JobStatus


class RetrainRun(BaseModel):
    """One run of ``jobs.retrain`` that a person asked for; ``id`` names the run, ``author`` the person."""

    model_config = ConfigDict(frozen=True)

    id: str
    bot: str
    author: str
    force: bool

    def environment(self) -> dict[str, str]:
        """What the job reads besides what it always does."""
        told = {"BOT": self.bot, "AUTHOR": self.author, "FORCE": str(self.force).lower()}
        return {f"RETRAIN_{name}": value for name, value in told.items()}


class RunnerUnavailable(Exception):
    """What runs the fine-tunes does not answer now; worth asking again."""


def step_event(line: Mapping[str, Any], began: float) -> JobEvent:
    """A step of the training, as metrics.jsonl has it, as an event; ``began`` is for lines without a time."""
    loss = line.get("loss")
    shown = f", training loss {loss:.2f}" if isinstance(loss, float) else ""
    data = {"step": line.get("step"), "train_loss": loss} | {
        key: line[key] for key in ("epoch", "learning_rate", "tokens_per_second") if key in line
    }
    message = f"Step {line.get('step')}{shown}"
    return JobEvent(created_at=line.get("time", began), message=message, type="metrics", data=data)


class Runner(Protocol):
    """Runs fine-tunes. Calls block; in an event loop they belong in a thread.

    Each may raise ``RunnerUnavailable`` or ``common.storage.StorageUnavailable``.
    """

    def check(self, spec: JobSpec) -> None:
        """Refuse, before anything is made, what this runner cannot run.

        Raises:
            UserError: no card is big enough, say; the sentence says what would do.
        """

    def start(self, spec: JobSpec, inputs: Path) -> None:
        """Take the job, and the folder ``inputs`` (train.jsonl, held_out.jsonl), which is moved away."""

    def get(self, job_id: str) -> Job | None:
        """One job; None when there is none of that id."""

    def list(self) -> Sequence[Job]:
        """Every job, the newest first."""

    def cancel(self, job_id: str) -> Job | None:
        """Stop a job that has not ended, with every process it started; returns once they are gone."""

    def events(self, job_id: str) -> Sequence[JobEvent]:
        """What happened so far, the oldest first."""

    def results(self, job_id: str) -> bytes | None:
        """The figures of every step as JSON Lines, None before the first."""

    def forget_rows(self, job_id: str) -> None:
        """Remove every row, answer and log that a job which has ended keeps; its record and figures stay."""

    def retrain(self, request: RetrainRun) -> None:
        """Run ``jobs.retrain`` once; what it makes of it is told by what it makes: a fine-tune, or none."""

    def tick(self) -> None:
        """Look after the jobs: start what is queued, see to what died. Called every second or so."""


def said_last(log: str) -> str:
    """The sentence (``error: ...``) that ends a step's log; empty where it ends with something else."""
    _, found, said = f"\n{log.rstrip()}".rpartition("\nerror: ")
    return said if found and "\n" not in said else ""
