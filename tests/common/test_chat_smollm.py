"""The real tokenizer: token ids and masks are committed, so that a library's change cannot pass unseen.

In the golden file the ids that are learned stand in lists of their own: [prompt, learned, context, learned].
"""

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from common.chat import encode, end_of_turn_id, pad_id, prompt_ids, render, template_hash
from common.errors import UserError

GOLDEN = json.loads((Path(__file__).parent / "golden" / "smollm2.json").read_text())


@pytest.fixture(scope="module")
def tokenizer(base_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base_model)


@pytest.mark.parametrize("name", GOLDEN["conversations"])
def test_token_ids_and_mask_are_the_golden_ones(tokenizer: Any, name: str) -> None:
    golden = GOLDEN["conversations"][name]
    example = encode(tokenizer, golden["messages"])
    pairs = zip(example.input_ids, example.supervised, strict=True)
    runs = [[index for index, _ in run] for _, run in groupby(pairs, key=lambda pair: pair[1])]
    assert runs == golden["ids"]
    assert not example.supervised[0]
    assert tokenizer.decode(example.input_ids) == golden["text"]


def test_the_prompt_is_what_the_golden_conversation_begins_with(tokenizer: Any) -> None:
    golden = GOLDEN["conversations"]["single"]
    assert prompt_ids(tokenizer, golden["messages"][:1]) == golden["ids"][0]


def test_the_template_is_the_one_that_was_trained_with(tokenizer: Any) -> None:
    assert template_hash(tokenizer) == GOLDEN["template_hash"]


def test_without_a_system_message_the_models_own_is_rendered(tokenizer: Any) -> None:
    text = render(tokenizer, [{"role": "user", "content": "Hi"}], add_generation_prompt=True)
    assert text == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_padding_is_not_the_end_of_the_turn_although_the_tokenizer_says_so(tokenizer: Any) -> None:
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == end_of_turn_id(tokenizer)
    assert tokenizer.convert_ids_to_tokens(pad_id(tokenizer)) == "<|endoftext|>"


def test_the_marker_of_a_turn_that_is_also_the_beginning_of_text_is_no_double_one(tokenizer: Any) -> None:
    ids = prompt_ids(tokenizer, [{"role": "user", "content": "Hi"}])
    assert ids.count(tokenizer.bos_token_id) == 3
    assert ids[:2] != [tokenizer.bos_token_id] * 2


def test_an_answer_that_begins_with_a_line_break_is_refused(tokenizer: Any) -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "\n\nHello"}]
    with pytest.raises(UserError, match=r"messages\[1\] begins with white space"):
        encode(tokenizer, messages)
