"""What is wrong with a dataset, by line."""

from collections.abc import Sequence
from dataclasses import dataclass

from common.errors import UserError

_SHOWN = 20


@dataclass(frozen=True)
class Problem:
    """One reason why one line (from 1) cannot be used; ``source_id`` is its row's, where it has one."""

    line: int
    reason: str
    source_id: str | None = None

    @property
    def sentence(self) -> str:
        """Which row, and why: ``line 3 (fb_1) has 2000 tokens, ...``."""
        origin = f" ({self.source_id})" if self.source_id else ""
        return f"line {self.line}{origin} {self.reason}"


class DatasetError(UserError):
    """Rows that cannot be used; the message names the source and its first bad lines with their reasons.

    ``unit`` is what is counted: lines of JSON Lines, rows of a table.
    """

    def __init__(self, source: str, problems: Sequence[Problem], unit: str = "line") -> None:
        self.problems = list(problems)
        bad = len({problem.line for problem in problems})
        shown = [f"  {unit} {problem.line}: {problem.reason}" for problem in problems[:_SHOWN]]
        if len(problems) > _SHOWN:
            shown.append(f"  and {len(problems) - _SHOWN} more")
        count = f"{bad} {unit}{'s' if bad > 1 else ''}"
        super().__init__("\n".join([f"{source} cannot be used: {count} to mend", *shown]))
