"""The one-page note: learned from, fixed, broke, in words that a person can check."""

from pathlib import Path

from common.adapters import AdapterManifest
from common.models import BaseModel
from common.names import VersionName
from common.verdict import Verdict
from jobs.evaluate.answers import Answer
from jobs.evaluate.gate import Finding
from jobs.evaluate.judge import Judgement
from jobs.evaluate.mistakes import Outcome, judge_mistakes
from jobs.evaluate.report import make_verdict
from jobs.evaluate.version import Version

NAME = VersionName("support-bot", 7)
OUTCOMES: list[Outcome] = ["fixed", "fixed", "not fixed", "back", "mended", "broken", "kept"]


def answer(number: int, outcome: Outcome) -> Answer:
    return Answer(
        f"key-{number}",
        f"Question {number}?",
        f"Right {number}.",
        f"Served {number}.",
        f"Says {number}.",
        rejected=f"Wrong {number}.",
        outcome=outcome,
    )


def verdict(dataset: dict[str, object]) -> Verdict:
    manifest = AdapterManifest(name=str(NAME), base="small", revision="r", rank=8, files={}, sha256="ab")
    version = Version(NAME, manifest, BaseModel(Path(), "small", "r"), None)
    mistakes = judge_mistakes(OUTCOMES)
    assert mistakes is not None
    findings = [Finding("passed", "held-out loss fell"), mistakes]
    answers = [answer(number, outcome) for number, outcome in enumerate(OUTCOMES)]
    return make_verdict(Judgement(findings, None, answers, "support-bot@6"), version, dataset)


def section(note: str, title: str) -> str:
    return note.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_the_note_says_whose_words_it_learned_from_by_number() -> None:
    source = {"kind": "feedback", "id": "fb_1", "conversation_key": "k"}
    people = [("ada", False), ("ada", False), ("bob", False), ("eve", True)]
    sources = [source | {"person_id": person, "held_out": held} for person, held in people]
    learned = section(verdict({"sources": sources}).note, "Learned from")
    assert "What 2 people said in 3 opinions, with 1 more held out to judge by." in learned
    assert "bob" not in learned
    assert "people said" not in section(verdict({}).note, "Learned from")


def test_the_note_shows_what_is_fixed_and_what_is_broken() -> None:
    note = verdict({}).note
    fixed, broke = section(note, "Fixed"), section(note, "Broke")
    assert "2 of 3. A known mistake is a held-out correction to which support-bot@6 gives no" in fixed
    assert "| Question 0? | Wrong 0. | Right 0. | Says 0. |" in fixed
    assert "Question 2?" not in fixed
    assert "1 of 2 accepted answers" in broke
    assert "1 of 2 mistakes that support-bot@6 no longer makes are back" in broke
    assert "Question 3?" in broke
    assert "Question 5?" in broke
    assert "Question 4?" not in broke


def test_the_sentence_counts_as_a_person_would() -> None:
    assert verdict({}).sentence.startswith(
        "Held-out loss fell; fixed 2 of 3 known mistakes, broke 1 of 2 accepted answers, "
        "brought back 1 of 2 mended mistakes: passed."
    )
