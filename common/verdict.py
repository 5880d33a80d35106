"""What the gate says about a version: a state, one sentence in words, its figures and its one-page note."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

State = Literal["passed", "refused", "not judged", "insufficient data"]


class Verdict(BaseModel):
    """An evaluation's result, as jobs report it to control and as a version keeps it.

    ``passed`` lets a version have traffic and ``refused`` does not; with the other two a person decides.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    state: State
    sentence: str = Field(min_length=1)
    figures: dict[str, float] = {}
    """Flat, so that each can be a metric: losses in nats per supervised token, counts as numbers."""
    note: str = ""
    """Markdown, one page: what the version learned from, its figures, answers side by side."""

    @property
    def needs_a_person(self) -> bool:
        """Whether the figures decide nothing, so that an owner must."""
        return self.state in ("not judged", "insufficient data")
