"""Bases of shapes, and what several of them share."""

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, PlainSerializer, StringConstraints

T = TypeVar("T")


class Given(BaseModel):
    """What a caller sends; an unknown field is refused."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class Shown(BaseModel):
    """What a caller gets."""

    model_config = ConfigDict(from_attributes=True)


class Page(BaseModel, Generic[T]):
    """A page in OpenAI's form; the next one is asked for with ``after`` = ``last_id``."""

    object: Literal["list"] = "list"
    data: list[T]
    has_more: bool = False
    first_id: str | None = None
    last_id: str | None = None


class Deleted(BaseModel):
    """OpenAI's answer to a deletion."""

    id: str
    object: str
    deleted: bool = True


Seconds = Annotated[datetime, PlainSerializer(lambda moment: int(moment.timestamp()), return_type=int)]
"""A time, sent as whole seconds since the epoch, as OpenAI does."""

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=32_768)]
Figures = dict[str, Any]


def page(rows: list[Any], limit: int, key: str = "id") -> dict[str, Any]:
    """The page's fields from up to ``limit`` + 1 rows: one more than fits says that there is more."""
    shown = rows[:limit]
    ids = [getattr(row, key) for row in shown]
    return {
        "data": shown,
        "has_more": len(rows) > limit,
        "first_id": ids[0] if ids else None,
        "last_id": ids[-1] if ids else None,
    }
