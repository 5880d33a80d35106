"""Held-out questions answered by both models, for people to read beside the figures."""

from collections.abc import Mapping
from dataclasses import dataclass

from common.rows import ChatRow
from jobs.evaluate.mistakes import Outcome, telling
from jobs.evaluate.scores import Models, Rows
from jobs.evaluate.vllm_client import Vllm


@dataclass(frozen=True)
class Answer:
    """One held-out question, what was expected, and what is said by the reference and by the adapter.

    ``rejected`` and ``outcome`` are those of a row that a person had an opinion of, else empty.
    """

    key: str
    question: str
    expected: str
    served: str
    adapter: str
    rejected: str = ""
    outcome: str = ""


def answer(
    vllm: Vllm, rows: Rows, found: Mapping[int, Outcome], models: Models, *, count: int, max_tokens: int
) -> list[Answer]:
    """Greedy answers to the last question of ``count`` rows, first of those where something changed."""
    shown = telling(found, len(rows.rows))[:count]

    def ask(pair: tuple[int, str]) -> str:
        row, model = rows.rows[pair[0]], pair[1]
        return vllm.answer(model, row.messages[:-1], row.tools, max_tokens=max_tokens)

    said = vllm.map(ask, [(place, model) for place in shown for model in models])
    both = zip(shown, said[::2], said[1::2], strict=True)
    return [_beside(rows.rows[place], found.get(place), *texts) for place, *texts in both]


def _beside(row: ChatRow, outcome: Outcome | None, served: str, adapter: str) -> Answer:
    expected = str(row.messages[-1].get("content") or "")
    rejected = (row.opinion and row.opinion.rejected) or ""
    return Answer(row.key, _last_question(row), expected, served, adapter, rejected, outcome or "")


def _last_question(row: ChatRow) -> str:
    asked = [message["content"] for message in row.messages[:-1] if message["role"] == "user"]
    return str(asked[-1]) if asked else ""
