"""How far a run is: a bar with tokens/s and time left on a terminal, a line now and then elsewhere."""

import sys
import time
from types import TracebackType
from typing import Any, Self

from jobs.finetune.metrics import StepMetrics

LINE_EVERY_S = 10.0
_SMOOTHING = 0.1


class Progress:
    """Shows steps on stderr; used as a context."""

    def __init__(self, total: int, done: int) -> None:
        self._total = total
        self._done = done
        self._rate: float | None = None
        self._seconds: float | None = None
        self._last_line = 0.0
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._start_bar()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def show(self, step: StepMetrics) -> None:
        """Show that ``step`` is done."""
        self._rate = _smooth(self._rate, step.tokens_per_second)
        self._seconds = _smooth(self._seconds, step.tokens / step.tokens_per_second)
        text = f"loss {step.loss:.3f}  {self._rate:,.0f} tokens/s  {_clock(self._left(step))} left"
        if self._bar:
            self._bar.update(self._task, completed=step.step, text=text)
        elif time.monotonic() - self._last_line >= LINE_EVERY_S or step.step == self._total:
            self._last_line = time.monotonic()
            print(f"step {step.step}/{self._total}  {text}", file=sys.stderr, flush=True)

    def _left(self, step: StepMetrics) -> float:
        return (self._seconds or 0.0) * (self._total - step.step)

    def _start_bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar

        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("steps  {task.fields[text]}"))
        self._bar = Bar(*columns, console=Console(stderr=True))
        self._task = self._bar.add_task("", total=self._total, completed=self._done, text="")
        self._bar.start()


def _smooth(old: float | None, new: float) -> float:
    return new if old is None else (1 - _SMOOTHING) * old + _SMOOTHING * new


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
