"""``metrics.jsonl``: one JSON object a step, the truth that logs and MLflow are copies of."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from jobs.finetune.files import replace_durably


@dataclass(frozen=True)
class StepMetrics:
    """What one step did."""

    step: int
    """From 1."""
    epoch: float
    """Passes over the rows done after this step."""
    loss: float
    """Mean nats per supervised token of the step's rows, before its update."""
    learning_rate: float
    gradient_norm: float
    """Before clipping."""
    tokens: int
    """Of the step's rows, without padding."""
    supervised_tokens: int
    tokens_per_second: float
    gpu_memory: int | None
    """Most bytes allocated on the GPU so far; None on a CPU."""
    time: float
    """Seconds since 1970, UTC."""


class MetricsFile:
    """Appends steps; ``steps`` holds all there are, also those of a run before this process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None
        self.steps: list[StepMetrics] = []

    def open_at(self, step: int) -> None:
        """Keep the lines up to ``step`` and go on from there; later steps will be done again."""
        self.steps = [line for line in _read(self._path) if line.step <= step]
        content = "".join(_line(line) for line in self.steps)
        replace_durably(self._path, content.encode())
        self._file = self._path.open("a", encoding="utf-8")

    def append(self, step: StepMetrics) -> None:
        """Write one line."""
        if self._file is None:
            raise RuntimeError("open_at comes first")
        self.steps.append(step)
        self._file.write(_line(step))
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()


def last_epoch_loss(steps: list[StepMetrics]) -> float:
    """Mean nats per supervised token over the last pass, or what there was of it."""
    begin = max(0.0, steps[-1].epoch - 1)
    last = [step for step in steps if step.epoch > begin]
    return sum(step.loss * step.supervised_tokens for step in last) / sum(
        step.supervised_tokens for step in last
    )


def now() -> float:
    """The time that a step carries."""
    return time.time()


def _line(step: StepMetrics) -> str:
    return json.dumps(asdict(step)) + "\n"


def _read(path: Path) -> list[StepMetrics]:
    steps: list[StepMetrics] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            steps.append(StepMetrics(**json.loads(line)))
        except ValueError:  # a process was killed within its last line
            break
    return steps
