"""Erasure."""

from typing import Literal

from pydantic import BaseModel, Field


class Erasure(BaseModel):
    """What was erased, and what is left to do.

    ``completions``, ``feedback``, ``comparisons`` and ``uploads`` count what lost its words. ``datasets``
    are all that lost a source, and ``versions`` all that learned from erased words and still answer: the next
    retrain makes do without, and they are retired once what it made is served. ``waiting`` says, a sentence
    each, which copies are deleted later since their place is away.
    """

    object: Literal["erasure"] = "erasure"
    tombstones: list[str]
    completions: int
    feedback: int
    comparisons: int
    uploads: int
    datasets: list[str] = Field(description="digests")
    versions: list[str]
    waiting: list[str]
