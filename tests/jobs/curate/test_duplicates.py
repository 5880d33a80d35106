import time
from collections.abc import Iterable

from jobs.curate.duplicates import compare, question


def near(asked: Iterable[tuple[str, str]]) -> dict[str, str]:
    """By conversation: who asked nearly the same, itself included."""
    found = compare(asked)
    return {
        name: "".join(sorted({who for one in of for other in found.near[one] for who in found.askers[other]}))
        for name, of in found.of.items()
    }


def test_what_is_nearly_the_same_question_is_found_whatever_its_marks_and_case() -> None:
    asked = [
        ("a", "When do the pieces from the kiln come out, please?"),
        ("b", "when do the pieces from the kiln come out please"),
        ("c", "When do the pieces from the kilns come out, please?"),
        ("d", "How much is a beginners' class on Saturdays?"),
    ]
    assert near(asked) == {"a": "abc", "b": "abc", "c": "abc", "d": "d"}


def test_paraphrases_and_other_numbers_are_other_questions() -> None:
    asked = [
        ("a", "How many days until my fired bowl is ready?"),
        ("b", "When can I pick up what you fired for me?"),
        ("c", "Which pieces of mine are on the shelf of locker number 12 in the hall?"),
        ("d", "Which pieces of mine are on the shelf of locker number 17 in the hall?"),
    ]
    assert near(asked) == {name: name for name in "abcd"}


def test_a_conversation_is_near_to_whom_any_of_its_questions_is_near_to() -> None:
    base = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    longer = f"{base} fifteen sixteen"
    longest = f"{longer} seventeen eighteen nineteen"
    asked = [("x", base), ("y", longer), ("z", longest), ("x", "另一个问题"), ("w", "另一个问题?")]
    assert near(asked) == {"x": "wxy", "y": "xyz", "z": "yz", "w": "wx"}


def test_korean_questions_and_empty_ones_are_compared_too() -> None:
    asked = [
        ("a", "가마에서 나온 작품은 며칠 뒤에 찾을 수 있나요?"),
        ("b", "가마에서 나온 작품은 며칠 뒤에 찾을 수 있나요"),
        ("c", ""),
        ("d", "?"),
    ]
    assert near(asked) == {"a": "ab", "b": "ab", "c": "cd", "d": "cd"}


def test_only_what_the_person_asked_is_compared() -> None:
    system = {"role": "system", "content": "You are Juniper, and you answer for the pottery workshop."}
    turns = [system, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
    assert question([*turns, {"role": "user", "content": "Open?"}]) == "Hi\nOpen?"


def test_two_thousand_questions_take_seconds() -> None:
    words = ("kiln", "clay", "glaze", "wheel", "apron", "bowl", "class", "key", "rent", "tea", "shelf")
    asked = [
        (str(number), " ".join(words[number * step % 11] + str(number % (step + 7)) for step in range(3, 12)))
        for number in range(2000)
    ]
    started = time.process_time()
    compare(asked)
    assert time.process_time() - started < 20
