"""Feedback and conversations."""

from collections.abc import Container, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from services.control.shapes.base import Given, Seconds, Shown, Text
from services.database.tables import Arm, Completion, CompletionStatus, Feedback, FeedbackState

Rating = Literal[-1, 1]


class FeedbackCreate(Given):
    """A rating, a correction (the answer as it should have been) or both, about one completion.

    An owner who looks through answers may accept what they say at once, by ``state``.
    """

    completion_id: str
    rating: Rating | None = None
    correction: Text | None = None
    comment: Text | None = None
    state: Literal["accepted"] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "FeedbackCreate":
        if self.rating is None and self.correction is None and self.comment is None:
            raise ValueError("give a rating (-1 or 1), a correction or a comment")
        return self


class FeedbackUpdate(Given):
    """A change: one's own words, or an owner's decision on them. What is left out stays.

    An owner who rewrites somebody's correction fixes it (state ``fixed``). Words that their person changes
    after a review are ``new`` again.
    """

    rating: Rating | None = None
    correction: Text | None = None
    comment: Text | None = None
    state: FeedbackState | None = None


class FeedbackPublic(Shown):
    """What a person said about an answer, and what became of it."""

    object: Literal["feedback"] = "feedback"
    id: str
    person_id: str
    completion_id: str | None
    conversation_key: str
    bot: str | None
    version: int | None
    rating: int | None
    correction: str | None
    comment: str | None
    state: FeedbackState
    created_at: Seconds
    updated_at: Seconds
    reviewed_by: str | None
    reviewed_at: Seconds | None


class FeedbackPage(Shown):
    """A page of feedback, the oldest change first; ``next`` is the cursor to go on from, also later."""

    object: Literal["list"] = "list"
    data: list[FeedbackPublic]
    has_more: bool
    next: str | None = Field(description="send it as `after`")


class ConversationSummary(Shown):
    """One conversation in a list."""

    object: Literal["conversation"] = "conversation"
    id: str
    turns: int
    model: str
    started_at: Seconds
    last_at: Seconds


class TurnPublic(Shown):
    """One stored completion: what was sent, what came back, by which version, and what was said of it.

    ``passed_over`` is an answer of two that were compared: the conversation went on with the other.
    """

    id: str
    model: str
    bot: str | None
    version: int | None
    arm: Arm | None
    status: CompletionStatus
    messages: list[dict[str, Any]] | None
    answer: dict[str, Any] | None
    prompt_tokens: int | None
    completion_tokens: int | None
    created_at: Seconds
    passed_over: bool = False
    feedback: list[FeedbackPublic] = Field(default_factory=list)


class ConversationPublic(Shown):
    """A conversation with its turns in order."""

    object: Literal["conversation"] = "conversation"
    id: str
    turns: list[TurnPublic]

    @classmethod
    def of(
        cls,
        key: str,
        turns: Sequence[Completion],
        said: Mapping[str, Sequence[Feedback]],
        passed_over: Container[str],
    ) -> "ConversationPublic":
        """Completions of one conversation, each with its feedback."""
        shown = [TurnPublic.model_validate(turn) for turn in turns]
        for turn in shown:
            turn.passed_over = turn.id in passed_over
            turn.feedback = [FeedbackPublic.model_validate(row) for row in said[turn.id]]
        return cls(id=key, turns=shown)
