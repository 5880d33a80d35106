"""From examples, as control hands them out, to a dataset's files."""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest

from common.rows import held_out, read_rows
from jobs.curate.dataset import LABELS, PREFERENCES, Curated, TooLittle, build, manifest
from jobs.curate.examples import Chosen, Example, Said, draft
from jobs.curate.personal import Scrubber
from jobs.prepare.folder import HELD_OUT, TRAIN

TRAINED = [f"talk {number}" for number in range(50) if not held_out(f"talk {number}")]
KEPT_OUT = [f"talk {number}" for number in range(50) if held_out(f"talk {number}")]
NOTHING: Mapping[str, bool] = MappingProxyType({})


def said(name: str, key: str, **changes: Any) -> Said:
    return Said.model_validate(
        {
            "kind": "feedback",
            "id": f"fb_{name}",
            "person_id": "person_1",
            "conversation_key": key,
            "completion_id": f"chatcmpl-{name}",
            "rating": None,
            "correction": None,
            "messages": [{"role": "user", "content": f"What is {name} about, then?"}],
            "answer": {"role": "assistant", "content": "Nothing.", "refusal": None},
            "tools": None,
        }
        | changes
    )


def chosen(name: str, key: str, choice: str) -> Chosen:
    return Chosen.model_validate(
        {
            "kind": "comparison",
            "id": f"cmp_{name}",
            "person_id": "person_2",
            "conversation_key": key,
            "choice": choice,
            "messages": [{"role": "user", "content": f"And {name}?"}],
            "first": {"role": "assistant", "content": "The first."},
            "second": {"role": "assistant", "content": "The second."},
            "tools": None,
        }
    )


def dataset(*examples: Example, recorded: Mapping[str, bool] = NOTHING) -> Curated:
    """Of ``examples`` and two corrections that make it one at all."""
    others = [
        said("otters", TRAINED[-1], correction="Rivers."),
        said("badgers", KEPT_OUT[-1], correction="Woods."),
    ]
    return build(draft([*examples, *others]), Scrubber(), recorded)


def rows(curated: Curated, name: str) -> dict[str, Any]:
    """The rows of a file by the example that they came from."""
    lines = [json.loads(line) for line in curated.files.get(name, b"").splitlines()]
    return {line["source_id"]: line for line in lines}


def test_a_correction_is_a_chat_row_and_a_preference_row_and_only_it_is_learned() -> None:
    talk = [
        {"role": "user", "content": "Hello?"},
        {"role": "assistant", "content": "Yes?", "annotations": []},
        {"role": "user", "content": "When do you open?"},
    ]
    curated = dataset(said("a", TRAINED[0], correction="At nine.", rating=-1, messages=talk))
    row = rows(curated, TRAIN)["fb_a"]
    assert row["messages"] == [
        talk[0],
        {"role": "assistant", "content": "Yes?", "weight": 0},
        talk[2],
        {"role": "assistant", "content": "At nine."},
    ]
    assert row["key"] == TRAINED[0]
    preference = rows(curated, PREFERENCES)["fb_a"]
    assert preference["preferred_output"][0]["content"] == "At nine."
    assert preference["non_preferred_output"][0]["content"] == "Nothing."
    assert rows(curated, LABELS) == {}


def test_accepted_answers_are_learned_and_bare_thumbs_are_labels() -> None:
    curated = dataset(said("good", TRAINED[0], rating=1), said("bad", TRAINED[1], rating=-1))
    assert rows(curated, TRAIN)["fb_good"]["messages"][-1]["content"] == "Nothing."
    assert "fb_bad" not in rows(curated, TRAIN)
    assert {name: row["label"] for name, row in rows(curated, LABELS).items()} == {
        "fb_good": True,
        "fb_bad": False,
    }


def test_a_comment_alone_teaches_nothing_and_a_correction_to_the_same_words_is_an_accepted_answer() -> None:
    curated = dataset(said("c", TRAINED[0]), said("same", TRAINED[1], correction="Nothing.", rating=-1))
    assert "fb_c" not in rows(curated, TRAIN)
    assert rows(curated, TRAIN)["fb_same"]["onggi"] == {"kind": "accepted"}
    assert "fb_same" not in rows(curated, PREFERENCES)


def test_of_several_corrections_of_one_answer_the_last_counts() -> None:
    first = said("a", TRAINED[0], correction="At eight.")
    second = first.model_copy(update={"id": "fb_b", "correction": "At nine."})
    third = first.model_copy(update={"id": "fb_c", "correction": None, "rating": 1})
    learned = rows(dataset(first, second, third), TRAIN)
    assert {"fb_a", "fb_c"} & learned.keys() == set()
    assert learned["fb_b"]["messages"][-1]["content"] == "At nine."


def test_blind_choices_are_preferences_and_a_tie_is_none() -> None:
    curated = dataset(chosen("a", TRAINED[0], "second"), chosen("b", TRAINED[1], "tie"))
    preferences = rows(curated, PREFERENCES)
    assert preferences["cmp_a"]["preferred_output"][0]["content"] == "The second."
    assert "cmp_b" not in preferences


def test_a_held_out_conversation_is_judged_on_and_nothing_of_it_is_trained_on() -> None:
    curated = dataset(
        said("a", KEPT_OUT[0], correction="At nine."),
        said("b", KEPT_OUT[1], rating=1),
        chosen("c", KEPT_OUT[2], "first"),
    )
    held = rows(curated, HELD_OUT)
    assert held["fb_a"]["onggi"] == {"kind": "correction", "rejected": "Nothing."}
    assert held["fb_b"]["onggi"] == {"kind": "accepted"}
    for name in (TRAIN, PREFERENCES, LABELS):
        assert not {"fb_a", "fb_b", "cmp_c"} & rows(curated, name).keys()
    told = {source["id"]: source["held_out"] for source in curated.sources}
    assert told["fb_a"] is True
    assert told["fb_otters"] is False


QUESTION = "Could you tell me when the workshop on Bramble Lane opens, please"


def ask(ending: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": QUESTION + ending}]


@pytest.mark.parametrize("held", [True, False])
def test_who_asks_nearly_the_same_joins_the_side_that_is_recorded(held: bool) -> None:
    examples = [
        said("a", TRAINED[0], correction="At nine.", messages=ask("?")),
        said("b", KEPT_OUT[0], correction="At 9.", messages=ask("!")),
        said("c", TRAINED[1], correction="At nine o'clock.", messages=ask("")),
        said("d", TRAINED[1], rating=1),  # of the same conversation as c
    ]
    curated = dataset(*examples, recorded={TRAINED[0]: held})
    assert {"fb_a", "fb_b", "fb_c", "fb_d"} <= rows(curated, HELD_OUT if held else TRAIN).keys()
    assert curated.figures["held_out_as_duplicates"] == (2 if held else 0)


def test_what_is_near_to_both_sides_is_on_neither_and_told_by_its_id() -> None:
    curated = dataset(
        said("a", "a", correction="At nine.", messages=ask("?")),
        said("b", "b", correction="At 9.", messages=ask("!")),
        said("c", "c", rating=1, messages=ask("")),
        recorded={"a": True, "b": False},
    )
    assert not {"fb_a", "fb_c"} & {source["id"] for source in curated.sources}
    assert "fb_b" in rows(curated, TRAIN)
    assert {left.id for left in curated.left_out} == {"fb_a", "fb_c"}
    assert curated.figures["left_out_for"] == {
        "chat: question": 2,
        "label: question": 1,
        "preference: question": 1,
    }


def test_the_same_words_give_the_same_bytes_in_any_order_and_other_words_another_digest() -> None:
    some = [said(str(number), TRAINED[number], correction=f"Answer {number}.") for number in range(5)]
    one, two = dataset(*some), dataset(*reversed(some))
    assert (one.digest, one.files, manifest(one, "b")) == (two.digest, two.files, manifest(two, "b"))
    assert dataset(*some[1:]).digest != one.digest


def test_the_digest_is_the_one_that_training_records(tmp_path: Any) -> None:
    curated = dataset()
    (tmp_path / TRAIN).write_bytes(curated.files[TRAIN])
    assert read_rows(tmp_path / TRAIN).digest == curated.digest


def test_personal_data_is_gone_from_every_file_and_counted() -> None:
    call = {
        "id": "1",
        "type": "function",
        "function": {"name": "f", "arguments": '{"to": "kim@example.com"}'},
    }
    messages = [
        {"role": "system", "content": "The visitor is lee@example.com."},
        {"role": "user", "content": [{"type": "text", "text": "제 번호 010-1234-5678"}]},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "sent to kim@example.com"},
    ]
    wrong = {"role": "assistant", "content": "Call 010-9999-8888."}
    told = {"correction": "Write to lee@example.com.", "messages": messages, "answer": wrong}
    curated = dataset(
        said("a", TRAINED[0], **told), said("b", KEPT_OUT[0], **told), said("c", "me@here.org", **told)
    )
    everything = b"".join(curated.files.values()).decode()
    assert "<PHONE_NUMBER>" in everything
    assert not any(text in everything for text in ("example.com", "1234-5678", "9999", "here.org"))
    assert curated.figures["personal_data"]["PHONE_NUMBER"] >= 4


def test_conversations_whose_ids_are_mail_addresses_stay_apart() -> None:
    one, two = "kim@example.com", "lee@example.com"
    curated = dataset(said("a", one, correction="1"), said("b", two, correction="2"))
    keys = {row["key"] for name in (TRAIN, HELD_OUT) for row in rows(curated, name).values()}
    assert len(keys) == 4
    assert not any("example" in key for key in keys)


def test_what_cannot_be_a_row_is_left_out_with_its_reason() -> None:
    picture = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
    curated = dataset(said("a", TRAINED[0], correction="A cat.", messages=picture))
    assert {left.id for left in curated.left_out} == {"fb_a"}
    assert "only text parts" in curated.left_out[0].reason
    assert curated.figures["left_out_for"] == {
        "chat: messages[].content": 1,
        "preference: input.messages[].content": 1,
    }
    assert "fb_a" not in {source["id"] for source in curated.sources}


@pytest.mark.parametrize(
    ("examples", "words"),
    [
        ([], "nobody's reviewed words"),
        ([said("a", TRAINED[0], correction="x")], "nothing to judge on"),
        ([said("a", KEPT_OUT[0], correction="x")], "nothing to train on"),
    ],
)
def test_too_little_is_a_sentence(examples: list[Example], words: str) -> None:
    with pytest.raises(TooLittle, match=words):
        build(draft(examples), Scrubber(), {})
