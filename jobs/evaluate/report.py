"""What a judgement reads like: the verdict's sentence, the version's one-page note, the files."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.storage import open_store
from common.verdict import State, Verdict
from jobs.evaluate.answers import Answer
from jobs.evaluate.gate import Finding, count
from jobs.evaluate.judge import Judgement
from jobs.evaluate.mistakes import BROKEN
from jobs.evaluate.version import Version

EXAMPLES = 8
"""Answers in each of the note's tables; all are in answers.jsonl."""
CELL = 240
"""Characters of a table's cell."""

ENDINGS: dict[State, str] = {
    "passed": "passed",
    "refused": "refused",
    "not judged": "not judged, a person decides",
    "insufficient data": "insufficient data, a person decides",
}


def make_verdict(judgement: Judgement, version: Version, dataset: Mapping[str, Any]) -> Verdict:
    """The verdict in words, with all figures and the note; ``dataset`` is what control says of its rows."""
    figures = {key: value for finding in _findings(judgement) for key, value in finding.figures.items()}
    sentence = _sentence(judgement)
    learned = [part for part in (_people(dataset), _origin(version)) if part]
    note = _note(judgement, version, sentence, learned, figures)
    return Verdict(state=judgement.state, sentence=sentence, figures=figures, note=note)


def write(folder: Path, version: Version, verdict: Verdict, answers: list[Answer]) -> None:
    """``answers.jsonl``, ``note.md`` and, last, ``result.json`` in ``folder``, each whole or not at all."""
    lines = (json.dumps(dataclasses.asdict(answer), ensure_ascii=False) + "\n" for answer in answers)
    result = {"version": str(version.name)} | verdict.model_dump(mode="json")
    store = open_store(str(folder))
    store.put_bytes("".join(lines).encode(), "answers.jsonl")
    store.put_bytes(verdict.note.encode(), "note.md")
    store.put_bytes((json.dumps(result, ensure_ascii=False, indent=2) + "\n").encode(), "result.json")


def _findings(judgement: Judgement) -> list[Finding]:
    return [*judgement.findings, *([judgement.parity] if judgement.parity else [])]


def _sentence(judgement: Judgement) -> str:
    ending = ENDINGS[judgement.state]
    parity = judgement.parity
    if parity and parity.state == "refused":
        return f"{_capital(parity.words)}: {ending}."
    judged = "; ".join(finding.words for finding in judgement.findings)
    checked = judgement.state == "not judged" or parity is not None
    unchecked = "" if checked else " Whether vLLM serves it as it was trained was not checked."
    return f"{_capital(judged)}: {ending}.{unchecked}"


def _capital(words: str) -> str:
    return words if words.startswith("vLLM") else words[:1].upper() + words[1:]


def _note(
    judgement: Judgement, version: Version, sentence: str, learned: list[str], figures: dict[str, float]
) -> str:
    name, answers = str(version.name), judgement.answers
    parts = [f"# {name}: {judgement.state}", sentence, "## Learned from", *learned]
    if "known_mistakes" in figures:
        parts += ["## Fixed", _fixed(judgement.against, figures), *_changed(answers, ["fixed"], name)]
        parts += [
            "## Broke",
            _broke(judgement.against, figures),
            *_changed(answers, ["broken", "back"], name),
        ]
    if figures:
        lines = [(name.replace("_", " "), f"{value:.4g}") for name, value in figures.items()]
        parts += ["## Figures", "Losses and differences in nats per token.", _table(("", ""), lines)]
    if answers:
        rows = [(one.question, one.expected, one.served, one.adapter) for one in answers[:EXAMPLES]]
        heads = ("held-out question", "a person's answer", judgement.against, name)
        parts += ["## Side by side", _table(heads, rows)]
    return "\n\n".join(parts) + "\n"


def _fixed(against: str, figures: dict[str, float]) -> str:
    fixed, known = figures["known_mistakes_fixed"], figures["known_mistakes"]
    return (
        f"{fixed:.0f} of {known:.0f}. A known mistake is a held-out correction to which {against} gives no "
        "higher log-probability a token than to the answer that it replaced; fixed is one to which this "
        "version does."
    )


def _broke(against: str, figures: dict[str, float]) -> str:
    broken, accepted = figures["accepted_answers_broken"], figures["accepted_answers"]
    back, mended = figures["mended_mistakes_back"], figures["mended_mistakes"]
    return (
        f"{broken:.0f} of {accepted:.0f} accepted answers, whose log-probability a token is more than "
        f"{BROKEN:g} lower than with {against}; and {back:.0f} of {mended:.0f} mistakes that {against} no "
        "longer makes are back."
    )


def _changed(answers: Sequence[Answer], outcomes: Sequence[str], name: str) -> list[str]:
    """A table of the answers with one of these outcomes; nothing where there are none."""
    rows = [
        (one.question, one.rejected, one.expected, one.adapter) for one in answers if one.outcome in outcomes
    ]
    heads = ("held-out question", "rejected", "a person's answer", name)
    return [_table(heads, rows[:EXAMPLES])] if rows else []


def _people(dataset: Mapping[str, Any]) -> str:
    """Whose words they are, by number; empty where people rated nothing."""
    sources = dataset.get("sources", [])
    if not sources:
        return ""
    learned = [source for source in sources if not source["held_out"]]
    people = {source["person_id"] for source in learned}
    return (
        f"What {count(len(people), 'person', 'people')} said in {count(len(learned), 'opinion')}, with "
        f"{count(len(sources) - len(learned), 'more', 'more')} held out to judge by."
    )


def _origin(version: Version) -> str:
    manifest = version.manifest
    rows = [
        ("base", f"{manifest.base} at {manifest.revision}"),
        ("adapter", f"rank {manifest.rank}, sha256 {manifest.sha256}"),
    ]
    if version.registered:
        tags = version.registered.tags
        known = {
            "method": tags.method,
            "dataset": tags.dataset_digest,
            "job": tags.job_id,
            "run": tags.run_id,
        }
        rows += [(name, value) for name, value in known.items() if value]
    return _table(("", ""), rows)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    flat = " ".join(text.split())
    short = flat if len(flat) <= CELL else f"{flat[: CELL - 1]}…"
    return short.replace("|", "\\|")
