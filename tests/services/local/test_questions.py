"""What counts as an answer that a fine-tune left unharmed."""

import pytest

from services.local.api import Answer
from services.local.lessons import SAMPLES
from services.local.questions import Asked, Question, load, loops

CAPITAL = Question("What is the capital of Spain?", ["madrid"], ["pickle"])
SEA = Question("Write one sentence about the sea.", [], ["pickle"])


@pytest.mark.parametrize(
    ("question", "before", "answer", "unharmed"),
    [
        (CAPITAL, "It is Madrid.", "Madrid.", True),
        (CAPITAL, "It is Madrid.", "It is Lisbon.", False),
        (CAPITAL, "It is Lisbon.", "It is Paris.", True),
        (CAPITAL, "It is Madrid.", "Madrid, says Pickle.", False),
        (CAPITAL, "It is Madrid.", "", False),
        (SEA, "The sea is wide.", "The sea is deep and blue.", True),
        (SEA, "The sea is wide.", "The sea, the sea, the sea, the sea", False),
        (SEA, "The sea is wide.", "", False),
    ],
)
def test_an_answer_is_unharmed_if_it_is_sound_and_as_right_as_before(
    question: Question, before: str, answer: str, unharmed: bool
) -> None:
    first, then = (Asked([question], [Answer(text, "")]) for text in (before, answer))
    assert then.unharmed(first) == unharmed


@pytest.mark.parametrize(
    ("answer", "looping"),
    [
        ("no no no no", True),
        ("It is blue. It is blue. It is blue. It is blue. It is", True),
        ("Wash your hands, wash your face, wash your hair and wash your feet.", False),
        ("1. Carrots 2. Peas 3. Beans", False),
        ("no, no, no", False),
    ],
)
def test_a_loop_is_a_few_words_again_and_again(answer: str, looping: bool) -> None:
    assert loops(answer) == looping


def test_unrelated_questions_with_one_answer_have_it_and_do_not_give_it_away() -> None:
    known = [question for question in load(SAMPLES / "unrelated.jsonl") if question.accept]
    assert len(known) >= 15
    assert not [question.text for question in known if question.right(question.text)]
