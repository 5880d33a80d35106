"""Rows as nodes of a lineage: ids, states, counts and times, and none of what people wrote."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from services.control.shapes.lineage import Node
from services.database.tables import Comparison, Completion, Dataset, Feedback, Version


def completion(row: Completion, of: str | None = None) -> Node:
    """An answer; ``stored`` says whether its text is still there."""
    facts = {
        "bot": row.bot,
        "version": row.version,
        "arm": row.arm,
        "conversation": row.conversation_key,
        "stored": row.stored,
        "created_at": int(row.created_at.timestamp()),
    }
    return Node(kind="completion", id=row.id, of=of, facts=facts)


def version(row: Version, of: str | None = None) -> Node:
    """A version."""
    facts = {
        "state": row.state,
        "method": row.method,
        "sentence": row.sentence,
        "erased": row.erased_at is not None,
        "created_at": int(row.created_at.timestamp()),
    }
    return Node(kind="version", id=f"{row.bot}@{row.number}", of=of, facts=facts)


def dataset(digest: str, rows: Sequence[Dataset], there: Mapping[str, Any], of: str | None = None) -> Node:
    """A dataset; what ``jobs.curate`` made of ratings is counted, of which ``there`` are left."""
    sources = [source for row in rows for source in row.sources]
    facts: dict[str, Any] = {"curated": bool(rows)}
    if rows:
        facts |= {
            "ratings": len(sources),
            "held_out": sum(bool(source["held_out"]) for source in sources),
            "erased": sum(source["id"] not in there for source in sources),
            "people": len({source["person_id"] for source in sources}),
            "created_at": int(rows[0].created_at.timestamp()),
        }
    return Node(kind="dataset", id=digest, of=of, facts=facts)


def source(row: Mapping[str, Any], there: Mapping[str, str | None], of: str | None) -> Node:
    """A rating as a dataset's manifest names it."""
    facts = {
        "there": row["id"] in there,
        "held_out": bool(row["held_out"]),
        "conversation": row["conversation_key"],
        "completion": there.get(row["id"]),
    }
    return Node(
        kind="feedback" if row["kind"] == "feedback" else "comparison", id=row["id"], of=of, facts=facts
    )


def feedback(row: Feedback) -> Node:
    """What was said of an answer."""
    facts = {
        "there": True,
        "rating": row.rating,
        "corrected": row.correction is not None,
        "state": row.state,
        "created_at": int(row.created_at.timestamp()),
    }
    return Node(kind="feedback", id=row.id, of=row.completion_id, facts=facts)


def comparison(row: Comparison) -> Node:
    """A blind choice."""
    facts = {"there": True, "choice": row.choice, "created_at": int(row.created_at.timestamp())}
    return Node(kind="comparison", id=row.id, of=row.first_id, facts=facts)


def once(nodes: Iterable[Node]) -> list[Node]:
    """``nodes`` in order, each thing once."""
    return list({(node.kind, node.id): node for node in reversed(list(nodes))}.values())[::-1]
