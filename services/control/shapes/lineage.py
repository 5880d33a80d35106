"""Where an answer came from, and what a rating led to."""

from typing import Any, Literal

from pydantic import BaseModel, Field

NodeKind = Literal[
    "completion", "version", "base", "run", "job", "dataset", "feedback", "comparison", "prompt", "trace"
]


class Node(BaseModel):
    """One thing in a lineage: what it is, what it hangs on (``of``, an id; null: on what was asked for), and
    facts about it that are no words of anybody's.
    """

    kind: NodeKind
    id: str
    of: str | None = None
    facts: dict[str, Any] = Field(default_factory=dict)


class Lineage(BaseModel):
    """What was asked for, with everything that it came from and everything that it led to.

    Of what is many (a dataset's ratings, a version's answers) the first ``limit`` are named and all are
    counted; a member is shown their own, and the counts. A rating that is not ``there`` was erased.
    """

    object: Literal["lineage"] = "lineage"
    of: Node
    came_from: list[Node]
    led_to: list[Node]
