"""What control says of a bot's trial: ``GET /onggi/v1/bots/{bot}/evidence``."""

from typing import Literal

from pydantic import BaseModel

from jobs.promote.pairing import Arm


class Rating(BaseModel):
    """What a person thought of one conversation. ``at`` is when they first said it, in epoch seconds."""

    person: str
    arm: Arm
    liked: bool
    at: float


class Choice(BaseModel):
    """Which of two answers shown without names a person chose."""

    person: str
    chosen: Literal["candidate", "champion", "tie"]
    at: float


class Answer(BaseModel):
    """What an answer took: ``ttft_ms`` None where it was not streamed, ``tokens`` None where it failed."""

    failed: bool
    ttft_ms: float | None
    tokens: int | None


class Conversation(Answer):
    """A conversation that began in the trial: its first answer, and whether any failed."""

    person: str
    arm: Arm
    at: float


class Shadow(BaseModel):
    """One message answered twice: what was shown, and what the candidate answered unseen."""

    shown: Answer
    candidate: Answer
    at: float


class Evidence(BaseModel):
    """A bot's row, what may be tried next, and what came in since its trial began."""

    bot: str
    generation: int
    champion: int | None
    candidate: int | None
    share: float
    shadow: bool
    pinned: bool
    untried: int | None
    """The newest version that passed, where it is newer than what is served and was never tried."""
    erased: list[int]
    """Which of champion and candidate learned from words that were erased since."""
    began_at: float | None
    now: float
    asked: bool
    """Whether this trial was said to be inconclusive already."""
    ratings: list[Rating]
    choices: list[Choice]
    conversations: list[Conversation]
    shadows: list[Shadow]
