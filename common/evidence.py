"""What a trial has shown so far, without names or words: control gathers it, ``jobs.promote`` decides on it.

Every ``at`` is in seconds since the epoch, with their fraction: orders are made of it.
"""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, Field

Arm = Literal["candidate", "champion"]


class RatedConversation(BaseModel):
    """What a person first said of a conversation: a thumb, or a correction, which is a thumb down."""

    person: str = Field(description="the same for the same person within this trial, and nobody's id")
    arm: Arm
    liked: bool
    at: float


class BlindChoice(BaseModel):
    """Which of two answers shown without names a person chose."""

    person: str
    chosen: Literal["candidate", "champion", "tie"]
    at: float


class AnswerFigures(BaseModel):
    """What an answer took; ``ttft_ms`` None where it was not streamed, ``tokens`` None where it failed."""

    failed: bool = Field(description="an error of ours, or nothing at all")
    ttft_ms: float | None
    tokens: int | None


class TrialConversation(AnswerFigures):
    """A conversation that began in the trial: its first answer's figures, and whether any answer failed."""

    person: str
    arm: Arm
    at: float


class ShadowPair(BaseModel):
    """One message answered twice: as it was shown, and by the candidate, unseen; of neither the delay."""

    shown: AnswerFigures
    candidate: AnswerFigures
    at: float


class Evidence(BaseModel):
    """A bot's row, what may be tried next, and what came in since its trial began."""

    object: Literal["evidence"] = "evidence"
    bot: str
    generation: int
    champion: int | None
    candidate: int | None
    share: float
    shadow: bool
    pinned: bool
    untried: int | None = Field(description="the newest passed version, if it was never tried")
    erased: list[int] = Field(description="of champion and candidate, what learned from words erased since")
    began_at: float | None = Field(description="when this candidate got this share")
    now: float
    passed: bool = Field(description="whether the gate passed the candidate: any other is a person's to try")
    asked_at: float | None = Field(description="when a person was last asked to decide this trial")
    ratings: list[RatedConversation] = Field(default_factory=list, description="one for each conversation")
    choices: list[BlindChoice] = Field(default_factory=list)
    conversations: list[TrialConversation] = Field(default_factory=list, description="the first")
    shadows: list[ShadowPair] = Field(default_factory=list, description="the first")
    full: bool = Field(
        default=False, description="whether conversations (in shadow, shadows) are all that are looked at"
    )

    @property
    def answers(self) -> Sequence[TrialConversation | ShadowPair]:
        """What harm is looked for in: answers in shadow while nobody is shown any, else conversations."""
        return self.shadows if self.shadow else self.conversations
