"""What a trial has shown so far, without names or words."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, PlainSerializer

from services.control.shapes.base import Shown

Moment = Annotated[datetime, PlainSerializer(lambda moment: moment.timestamp(), return_type=float)]
"""A time, sent as seconds since the epoch with their fraction: orders are made of it."""
TrialArm = Literal["candidate", "champion"]


class RatedConversation(Shown):
    """What a person first said of a conversation: a thumb, or a correction, which is a thumb down."""

    person: str = Field(description="the same for the same person within this trial, and nobody's id")
    arm: TrialArm
    liked: bool
    at: Moment


class BlindChoice(Shown):
    """Which of two answers shown without names a person chose."""

    person: str
    chosen: Literal["candidate", "champion", "tie"]
    at: Moment


class AnswerFigures(Shown):
    """What an answer took. ``failed``: an error of ours, or nothing at all."""

    failed: bool
    ttft_ms: float | None
    tokens: int | None


class TrialConversation(AnswerFigures):
    """A conversation that began in the trial: its first answer's figures, and whether any answer failed."""

    person: str
    arm: TrialArm
    at: Moment


class ShadowPair(Shown):
    """One message answered twice: as it was shown, and by the candidate, unseen."""

    shown: AnswerFigures
    candidate: AnswerFigures
    at: Moment


class EvidencePublic(Shown):
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
    began_at: Moment | None = Field(description="when this candidate got this share")
    now: Moment
    asked: bool = Field(description="whether the trial was said to be inconclusive")
    ratings: list[RatedConversation] = Field(default_factory=list, description="one for each conversation")
    choices: list[BlindChoice] = Field(default_factory=list)
    conversations: list[TrialConversation] = Field(default_factory=list, description="the newest")
    shadows: list[ShadowPair] = Field(default_factory=list, description="the newest")
