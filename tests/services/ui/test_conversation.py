"""A conversation, and how it comes back from what control has stored."""

from typing import Any

from services.ui.conversation import Conversation, Turn


def stored(messages: list[dict[str, str]], answer: str, name: str, **said: Any) -> dict[str, Any]:
    feedback = {"rating": None, "correction": None, "comment": None} | said
    return {
        "id": name,
        "model": "support-bot",
        "bot": "support-bot",
        "version": 7,
        "messages": messages,
        "passed_over": False,
        "answer": {"choices": [{"index": 0, "message": {"role": "assistant", "content": answer}}]},
        "feedback": [feedback] if said else [],
    }


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def test_it_comes_back_turn_by_turn_with_what_was_said_of_it() -> None:
    first = stored([user("Hi")], "Hello", "chatcmpl-1", rating=1)
    second = stored([user("Hi"), assistant("Hello"), user("Who?")], "Me", "chatcmpl-2", correction="Onggi")
    conversation = Conversation.of({"id": "conv_1", "turns": [first, second]})
    assert conversation.turns == [
        Turn("user", "Hi"),
        Turn("assistant", "Hello", "chatcmpl-1", "support-bot@7", 1),
        Turn("user", "Who?"),
        Turn("assistant", "Onggi", "chatcmpl-2", "support-bot@7"),
    ]
    assert conversation.ratings() == ["Like", None]
    assert conversation.title == "Hi"


def test_an_answer_that_was_asked_for_again_is_shown_as_the_last_one() -> None:
    again = [stored([user("Hi")], text, f"chatcmpl-{text}") for text in ("one", "two")]
    conversation = Conversation.of({"id": "conv_1", "turns": again})
    assert [turn.text for turn in conversation.turns] == ["Hi", "two"]
    assert conversation.last_answer == Turn("assistant", "two", "chatcmpl-two", "support-bot@7")


def test_of_two_answers_the_one_that_was_passed_over_is_no_part_of_it() -> None:
    chosen = stored([user("Hi")], "one", "chatcmpl-1")
    other = stored([user("Hi")], "two", "chatcmpl-2") | {"passed_over": True}
    conversation = Conversation.of({"id": "conv_1", "turns": [chosen, other]})
    assert [turn.completion_id for turn in conversation.turns] == [None, "chatcmpl-1"]
    later = stored([user("Hi"), assistant("one"), user("Who?")], "Me", "chatcmpl-3")
    conversation = Conversation.of({"id": "conv_1", "turns": [chosen, other, later]})
    assert [turn.completion_id for turn in conversation.turns] == [None, "chatcmpl-1", None, "chatcmpl-3"]


def test_a_turn_whose_text_is_gone_or_never_came_does_no_harm() -> None:
    erased = stored([user("Hi")], "", "chatcmpl-1") | {"messages": None, "answer": None}
    assert Conversation.of({"id": "conv_1", "turns": [erased]}).turns == []
    failed = stored([user("Hi")], "", "chatcmpl-1") | {"answer": None, "version": None, "model": "base"}
    assert Conversation.of({"id": "conv_1", "turns": [failed]}).turns[-1].model == "base"


def test_taking_back_an_answer_takes_back_its_question_and_what_followed() -> None:
    turns = [Turn("user", "a"), Turn("assistant", "b"), Turn("user", "c"), Turn("assistant", "d")]
    conversation = Conversation(turns=turns)
    assert conversation.cut(3) == "c"
    assert conversation.cut(0) == "a"
    assert conversation.turns == []


def test_only_turns_with_text_are_sent_to_the_model() -> None:
    conversation = Conversation(turns=[Turn("user", "a"), Turn("assistant", "")])
    assert conversation.messages() == [{"role": "user", "content": "a"}]


def test_a_long_first_question_makes_a_short_title_of_one_line() -> None:
    conversation = Conversation(turns=[Turn("user", "Tell me\n" + "all " * 40)])
    assert len(conversation.title) <= 48
    assert conversation.title.startswith("Tell me all all")
    assert conversation.title.endswith("…")
