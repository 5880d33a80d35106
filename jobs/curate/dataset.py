"""From drafts to the dataset's files: scrubbed, checked, split by conversation; the same bytes each time."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.errors import UserError
from common.rows import ChatRow, Row, held_out, parse_row
from jobs.curate.duplicates import compare, question
from jobs.curate.examples import Draft
from jobs.curate.personal import Scrubber
from jobs.curate.sides import Side, choose
from jobs.prepare.folder import HELD_OUT, TRAIN, digest, to_json, to_json_lines

PREFERENCES, LABELS = "preferences.jsonl", "labels.jsonl"
_SAID = frozenset({"content", "text", "arguments", "rejected"})
_NEITHER = "question: nearly the same as some that are learned from and some that are held out"
_FILES = {"chat": TRAIN, "preference": PREFERENCES, "label": LABELS}


class TooLittle(UserError):
    """What people said so far makes no dataset."""


@dataclass(frozen=True)
class LeftOut:
    """An example that no row could be made of."""

    id: str
    kind: str
    reason: str

    @property
    def place(self) -> str:
        """Which part of which kind of row it was, without what stands there: ``chat: messages[]``."""
        first = re.match(r"[a-z_.\[\]\d]*", self.reason)
        return f"{self.kind}: {re.sub(r'[0-9]+', '', first[0] if first else '')}"


@dataclass(frozen=True)
class Curated:
    """A dataset in memory: its files by name (bytes), what they came from, and what is told of them.

    ``digest`` is the training file's, as ``jobs.finetune`` records it on the version that it makes.
    """

    digest: str
    files: dict[str, bytes]
    sources: list[dict[str, Any]]
    figures: dict[str, Any]
    left_out: list[LeftOut]


def build(drafts: Iterable[Draft], scrubber: Scrubber, recorded: Mapping[str, bool]) -> Curated:
    """Make the dataset.

    ``recorded`` says of the conversations that earlier datasets had, by key, whether they are held out.

    Raises:
        TooLittle: nothing is left to train on, or nothing is held out to judge on.
    """
    checked, left_out = _check(drafts, scrubber)
    asked = ((draft.example.conversation_key, question(row.messages)) for draft, row in checked)
    sides = choose(compare(asked), recorded)
    rows, neither = _take(checked, sides)
    left_out += neither
    kept_out = {key for key, side in sides.items() if side}
    parts = _split(rows, kept_out)
    if not (parts[TRAIN] and parts[HELD_OUT]):
        raise TooLittle(_too_little(len(parts[TRAIN]), len(parts[HELD_OUT]), left_out))
    files = {name: to_json_lines(part) for name, part in parts.items() if part}
    figures = {
        "rows": {name: len(part) for name, part in parts.items()},
        "conversations": len({draft.example.conversation_key for draft, _ in rows}),
        "people": len({draft.example.person_id for draft, _ in rows}),
        "corrections": _count("correction", parts[TRAIN] + parts[HELD_OUT]),
        "accepted": _count("accepted", parts[TRAIN] + parts[HELD_OUT]),
        "held_out_corrections": _count("correction", parts[HELD_OUT]),
        "held_out_accepted": _count("accepted", parts[HELD_OUT]),
        "held_out_as_duplicates": sum(1 for key in kept_out if not held_out(key)),
        "personal_data": dict(sorted(scrubber.counts.items())),
        "left_out": len(left_out),
        "left_out_for": dict(sorted(Counter(left.place for left in left_out).items())),
    }
    return Curated(digest(files[TRAIN]), files, _sources(rows, kept_out), figures, left_out)


def manifest(curated: Curated, bot: str) -> bytes:
    """What the dataset is and came from, by id, as JSON; nobody's words are in it."""
    told = {
        "bot": bot,
        "digest": curated.digest,
        "files": {name: digest(content) for name, content in curated.files.items()},
        "figures": curated.figures,
        "left_out": [left.id for left in curated.left_out],  # their reasons may quote them
        "sources": origins(curated),
    }
    return to_json(told)


def origins(curated: Curated) -> list[dict[str, Any]]:
    """The sources by ids that we gave: a conversation's key may be a caller's own, such as a mail address."""
    return [
        {name: value for name, value in source.items() if name != "conversation_key"}
        for source in curated.sources
    ]


Checked = tuple[Draft, Row]


def _check(drafts: Iterable[Draft], scrubber: Scrubber) -> tuple[list[Checked], list[LeftOut]]:
    rows, left_out = [], []
    for draft in sorted(drafts, key=lambda draft: (draft.example.conversation_key, draft.example.id)):
        value = scrub(draft.value, scrubber)
        origin = {"key": _key(draft.example.conversation_key, scrubber), "source_id": draft.example.id}
        try:
            rows.append((draft, parse_row(0, value | origin)))
        except ValueError as error:
            left_out.append(LeftOut(draft.example.id, draft.kind, str(error)))
    return rows, left_out


def _key(given: str, scrubber: Scrubber) -> str:
    """A conversation's key; of one that a caller chose and that holds personal data, the hash."""
    return given if scrubber.scrub(given) == given else hashlib.sha256(given.encode()).hexdigest()


def scrub(value: Any, scrubber: Scrubber, key: str = "") -> Any:
    """The row ``value`` without personal data in what was said; what tools there are was not said."""
    if isinstance(value, dict):
        said = {name: scrub(item, scrubber, name) for name, item in value.items() if name != "tools"}
        return value | said
    if isinstance(value, list):
        return [scrub(item, scrubber, key) for item in value]
    return scrubber.scrub(value) if isinstance(value, str) and key in _SAID else value


def _take(checked: Sequence[Checked], sides: Mapping[str, Side]) -> tuple[list[Checked], list[LeftOut]]:
    """What is on a side, and what is on none."""
    taken, neither = [], []
    for draft, row in checked:
        if sides[draft.example.conversation_key] is None:
            neither.append(LeftOut(draft.example.id, draft.kind, _NEITHER))
        else:
            taken.append((draft, row))
    return taken, neither


def _split(rows: Sequence[Checked], kept_out: set[str]) -> dict[str, list[Row]]:
    """Rows by file; of a conversation that is held out only the chat rows are kept, to judge on."""
    parts: dict[str, list[Row]] = {name: [] for name in (TRAIN, HELD_OUT, PREFERENCES, LABELS)}
    for draft, row in rows:
        if draft.example.conversation_key not in kept_out:
            parts[_FILES[row.kind]].append(row)
        elif row.kind == "chat":
            parts[HELD_OUT].append(row)
    return parts


def _sources(rows: Sequence[Checked], kept_out: set[Any]) -> list[dict[str, Any]]:
    """One entry an example, in a fixed order; ``learned`` says whether it is in the training file."""
    examples = {draft.example.id: draft.example for draft, _ in rows}
    chats = {draft.example.id for draft, row in rows if row.kind == "chat"}
    return [
        {
            "kind": example.kind,
            "id": example.id,
            "person_id": example.person_id,
            "conversation_key": example.conversation_key,
            "held_out": example.conversation_key in kept_out,
            "learned": example.id in chats and example.conversation_key not in kept_out,
        }
        for _, example in sorted(examples.items())
    ]


def _count(kind: str, rows: Iterable[Row]) -> int:
    return sum(1 for row in rows if isinstance(row, ChatRow) and row.opinion and row.opinion.kind == kind)


def _too_little(train: int, held: int, left_out: Sequence[LeftOut]) -> str:
    if train or held:
        return (
            f"of {train + held} rows {held} are held out by their conversations' keys, so there is nothing "
            f"to {'judge' if train else 'train'} on: more conversations must be reviewed first"
        )
    if left_out:
        return f"no row can be made: {left_out[0].id} ({left_out[0].place}); jobs.curate says why"
    return "nobody's reviewed words can be trained on yet: accept some of GET /onggi/v1/feedback?state=new"
