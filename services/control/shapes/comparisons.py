"""Blind comparisons of two answers."""

from typing import Annotated, Literal

from pydantic import Field

from services.control.shapes.base import Given, Seconds, Shown
from services.database.tables import Choice


class ComparisonCreate(Given):
    """Two completions of one message by different versions of a bot, in the order in which they are shown."""

    bot: str
    completions: Annotated[list[str], Field(min_length=2, max_length=2)]


class Chosen(Given):
    """Which answer is better; after a tie a conversation goes on with the first."""

    choice: Choice


class ComparisonPublic(Shown):
    """A comparison. Nobody is told which version is which before they have chosen."""

    object: Literal["comparison"] = "comparison"
    id: str
    person_id: str
    bot: str
    conversation_key: str
    first_id: str | None
    second_id: str | None
    choice: Choice | None
    created_at: Seconds
    chosen_at: Seconds | None


class ComparisonChosen(ComparisonPublic):
    """A comparison with its choice; a version is null where the base answered."""

    first_version: int | None
    second_version: int | None
