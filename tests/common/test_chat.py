"""Masks and rendering of the template families, with a tokenizer made here: no hub is reachable.

A golden file holds the rendered text, with what is learned between « and ».
"""

from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from common.chat import (
    Example,
    encode,
    encode_rows,
    end_of_turn_id,
    pad_id,
    pinned_template,
    prompt_ids,
    render,
    template_hash,
)
from common.errors import UserError
from common.rows import ChatRow, DatasetError

GOLDEN = Path(__file__).parent / "golden"
FAMILIES = {
    "qwen-2.5": {"special": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], "eos": "<|im_end|>"},
    "llama-3.1": {
        "special": [
            "<|begin_of_text|>",
            "<|start_header_id|>",
            "<|end_header_id|>",
            "<|eot_id|>",
            "<|finetune_right_pad_id|>",
        ],
        "bos": "<|begin_of_text|>",
        "eos": "<|eot_id|>",
    },
    "mistral-v3": {
        "special": [
            "<unk>",
            "<s>",
            "</s>",
            "[INST]",
            "[/INST]",
            "[TOOL_CALLS]",
            "[TOOL_RESULTS]",
            "[/TOOL_RESULTS]",
            "[AVAILABLE_TOOLS]",
            "[/AVAILABLE_TOOLS]",
        ],
        "bos": "<s>",
        "eos": "</s>",
        "unk": "<unk>",
    },
    "gemma-3": {
        "special": ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"],
        "bos": "<bos>",
        "eos": "<eos>",
        "pad": "<pad>",
    },
}
END_OF_TURN = {
    "qwen-2.5": "<|im_end|>",
    "llama-3.1": "<|eot_id|>",
    "mistral-v3": "</s>",
    "gemma-3": "<end_of_turn>",
}
# How Llama 3 and Qwen split words: line breaks stay together, whatever follows.
WORDS = r"\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
MARKED = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.role == 'assistant' %}{% generation %}{{ message.content }}<|im_end|>{% endgeneration %}\n"
    "{% else %}{{ message.content }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tokenizer(family: str) -> Any:
    """A small byte-level BPE tokenizer with the family's special tokens and our template of its form."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    about = FAMILIES[family]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    corpus = ["Where is the jar? In the yard, behind the house.\n\n\n  It ferments.\n"] * 3
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=about["special"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(corpus, trainer)
    names = {f"{name}_token": about.get(name) for name in ("bos", "eos", "unk", "pad") if name in about}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, **names)
    tokenizer.chat_template = (GOLDEN / "templates" / f"{family}.jinja").read_text()
    return tokenizer


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Any]:
    return {family: make_tokenizer(family) for family in FAMILIES}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def tokenizer(tokenizers: dict[str, Any], family: str) -> Any:
    return tokenizers[family]


@pytest.fixture
def chatml() -> Any:
    """A tokenizer of its own for tests that change the template."""
    return make_tokenizer("qwen-2.5")


def user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def answer(content: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


SYSTEM = {"role": "system", "content": "You keep the jars."}
SINGLE = [user("Where is the jar?"), answer("In the yard.")]
TURNS = [SYSTEM, *SINGLE, user("Since when?"), answer("Since\nautumn 🍂.")]
CALL = {"id": "call00001", "type": "function", "function": {"name": "find", "arguments": '{"what": "jar"}'}}
TOOLS = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}]
TOOL_TURNS = [
    user("Where is the jar?"),
    {"role": "assistant", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call00001", "content": "yard"},
    answer("In the yard."),
]


def learned(tokenizer: Any, example: Example) -> list[str]:
    """The texts of the supervised runs."""
    pairs = zip(example.input_ids, example.supervised, strict=True)
    runs = [(on, [index for index, _ in run]) for on, run in groupby(pairs, key=lambda pair: pair[1])]
    return [tokenizer.decode(ids) for on, ids in runs if on]


def marked(tokenizer: Any, example: Example) -> str:
    """The whole text, with what is learned between « and »."""
    pairs = zip(example.input_ids, example.supervised, strict=True)
    runs = [(on, [index for index, _ in run]) for on, run in groupby(pairs, key=lambda pair: pair[1])]
    return "".join(f"«{tokenizer.decode(ids)}»" if on else tokenizer.decode(ids) for on, ids in runs)


CASES: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]] | None]] = {
    "single": (SINGLE, None),
    "turns": (TURNS, None),
    "tools": (TOOL_TURNS, TOOLS),
}
# Mistral's form moves the system text to the last question, so an earlier answer's prompt is no prefix.
UNLEARNABLE = {("mistral-v3", "turns"), ("gemma-3", "tools")}


RENDERED = [(family, case) for family in FAMILIES for case in CASES if (family, case) not in UNLEARNABLE]


@pytest.mark.parametrize(("family", "case"), RENDERED)
def test_text_and_mask_are_the_golden_ones(tokenizer: Any, family: str, case: str) -> None:
    messages, tools = CASES[case]
    golden = (GOLDEN / family / f"{case}.txt").read_text().removesuffix("\n")
    example = encode(tokenizer, messages, tools=tools)
    assert marked(tokenizer, example) == golden
    assert render(tokenizer, messages, tools=tools) == golden.replace("«", "").replace("»", "")


def test_exactly_the_answers_and_their_end_of_turn_are_learned(tokenizer: Any, family: str) -> None:
    messages = TURNS if family != "mistral-v3" else TURNS[1:]
    space = " " if family == "mistral-v3" else ""
    end = END_OF_TURN[family]
    assert learned(tokenizer, encode(tokenizer, messages)) == [
        f"{space}In the yard.{end}",
        f"{space}Since\nautumn 🍂.{end}",
    ]


def test_what_comes_before_an_answer_is_the_prompt_that_serving_makes(tokenizer: Any) -> None:
    example = encode(tokenizer, SINGLE)
    prompt = prompt_ids(tokenizer, SINGLE[:1])
    assert example.input_ids[: len(prompt)] == prompt
    assert example.supervised.index(True) == len(prompt)


def test_there_is_one_beginning_of_text(tokenizer: Any) -> None:
    ids = encode(tokenizer, SINGLE).input_ids
    if tokenizer.bos_token_id is not None:
        assert ids[0] == tokenizer.bos_token_id
        assert ids.count(tokenizer.bos_token_id) == 1


def test_a_message_of_weight_0_is_context_only(tokenizer: Any, family: str) -> None:
    messages = [TURNS[0], TURNS[1], TURNS[2] | {"weight": 0}, *TURNS[3:]]
    [last] = learned(tokenizer, encode(tokenizer, messages))
    assert last.strip() == f"Since\nautumn 🍂.{END_OF_TURN[family]}"


def test_padding_is_never_the_end_of_a_turn(tokenizer: Any, family: str) -> None:
    assert tokenizer.convert_ids_to_tokens(end_of_turn_id(tokenizer)) == END_OF_TURN[family]
    tokenizer = make_tokenizer(family)
    expected = {"llama-3.1": "<|finetune_right_pad_id|>", "mistral-v3": "<unk>", "gemma-3": "<pad>"}
    for pad in (tokenizer.pad_token, END_OF_TURN[family]):
        tokenizer.pad_token = pad
        text = tokenizer.convert_ids_to_tokens(pad_id(tokenizer))
        assert text == expected.get(family, "<|endoftext|>")


def test_the_date_is_pinned(tokenizers: dict[str, Any]) -> None:
    assert "Today Date: 26 Jul 2024\n" in render(tokenizers["llama-3.1"], SINGLE)


def test_the_pinned_template_renders_the_same_with_nothing_of_ours(tokenizers: dict[str, Any]) -> None:
    llama = tokenizers["llama-3.1"]
    plain = llama.apply_chat_template(SINGLE, tokenize=False, chat_template=pinned_template(llama))
    assert plain == render(llama, SINGLE)


def test_a_date_that_cannot_be_pinned_is_refused(chatml: Any) -> None:
    chatml.chat_template = "{{ strftime_now('%Y-%m-' + '%d') }}"
    with pytest.raises(UserError, match="asks for today's date with a computed format"):
        render(chatml, SINGLE)


def test_an_earlier_answer_whose_prompt_changes_later_is_refused_with_the_way_out(
    tokenizers: dict[str, Any],
) -> None:
    mistral = tokenizers["mistral-v3"]
    with pytest.raises(
        UserError, match=r"messages\[2\]: .* give it weight 0, or end a row of its own with it"
    ):
        encode(mistral, TURNS)


def test_a_role_that_the_template_does_not_know_is_a_sentence(tokenizers: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="the chat template refuses these messages: there is no tool role"):
        encode(tokenizers["gemma-3"], TOOL_TURNS)


@pytest.mark.parametrize("inside", [True, False])
def test_generation_markers_say_what_is_learned(chatml: Any, inside: bool) -> None:
    outside = MARKED.replace("<|im_end|>{% endgeneration %}", "{% endgeneration %}<|im_end|>")
    chatml.chat_template = MARKED if inside else outside
    example = encode(chatml, TURNS)
    assert learned(chatml, example) == ["In the yard.<|im_end|>", "Since\nautumn 🍂.<|im_end|>"]
    first = TURNS[2] | {"weight": 0}
    assert learned(chatml, encode(chatml, [*TURNS[:2], first, *TURNS[3:]])) == ["Since\nautumn 🍂.<|im_end|>"]


def test_a_line_break_behind_the_marked_end_of_turn_is_not_learned(chatml: Any) -> None:
    chatml.chat_template = MARKED.replace("{% endgeneration %}\n", "\n{% endgeneration %}")
    assert learned(chatml, encode(chatml, SINGLE)) == ["In the yard.<|im_end|>"]


def test_markers_that_do_not_fit_the_messages_are_refused(chatml: Any) -> None:
    chatml.chat_template = "{% generation %}" + MARKED.replace("{% generation %}", "").replace(
        "{% endgeneration %}", ""
    ).replace("{% if add", "{% endgeneration %}{% if add")
    with pytest.raises(UserError, match="marks 1 parts with generation for 2 assistant messages"):
        encode(chatml, TURNS)


def test_a_template_without_an_end_of_turn_is_refused(chatml: Any) -> None:
    chatml.chat_template = (
        "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    )
    with pytest.raises(UserError, match="ends an answer with no special token"):
        encode(chatml, SINGLE)
    with pytest.raises(UserError, match="ends an answer with no special token"):
        pad_id(chatml)


def test_a_tokenizer_without_a_template_is_refused(chatml: Any) -> None:
    chatml.chat_template = None
    with pytest.raises(UserError, match="the tokenizer has no chat template: use an instruct model"):
        encode(chatml, SINGLE)


def test_a_beginning_of_text_written_twice_is_refused() -> None:
    llama = make_tokenizer("llama-3.1")
    llama.chat_template = "{{ bos_token }}" + llama.chat_template
    with pytest.raises(UserError, match=r"writes <\|begin_of_text\|> twice"):
        encode(llama, SINGLE)
    with pytest.raises(UserError, match="twice"):
        prompt_ids(llama, SINGLE[:1])


def test_a_beginning_of_text_that_the_template_forgot_is_refused() -> None:
    from tokenizers import processors

    llama = make_tokenizer("llama-3.1")
    begin = llama.bos_token_id
    llama.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", begin)]
    )
    assert encode(llama, SINGLE).input_ids.count(begin) == 1
    llama.chat_template = llama.chat_template.replace("bos_token + ", "")
    with pytest.raises(UserError, match="does not begin with"):
        encode(llama, SINGLE)


def test_content_that_would_end_a_turn_is_refused(tokenizer: Any, family: str) -> None:
    messages = [user("Where?"), answer(f"There.{END_OF_TURN[family]}And there.")]
    with pytest.raises(UserError, match=r"messages\[1\] holds the control token"):
        encode(tokenizer, messages)


def test_an_answer_that_begins_with_a_line_break_is_refused_where_it_melts_into_the_prompt(
    tokenizers: dict[str, Any],
) -> None:
    with pytest.raises(UserError, match=r"messages\[1\] begins with white space"):
        encode(tokenizers["qwen-2.5"], [user("Where?"), answer("\n\nThere.")])


def test_a_template_whose_prompt_the_tokenizer_joins_with_any_answer_is_refused() -> None:
    from tokenizers import pre_tokenizers

    # GPT-2's way of splitting keeps the last line break apart; Llama's form ends its prompt with two.
    llama = make_tokenizer("llama-3.1")
    llama.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    with pytest.raises(UserError, match=r"messages\[1\]: the tokenizer joins the end of the prompt"):
        encode(llama, SINGLE)


def test_nothing_to_learn_is_refused(tokenizers: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="no answer of weight 1"):
        encode(tokenizers["qwen-2.5"], [user("Where?"), answer("There.", weight=0)])


LONG = [
    SYSTEM,
    user("First?"),
    answer("One."),
    user("Second?"),
    answer("Two."),
    user("Third?"),
    answer("Three."),
]


def test_an_over_long_conversation_is_refused_and_says_by_how_much(tokenizers: dict[str, Any]) -> None:
    qwen = tokenizers["qwen-2.5"]
    length = len(encode(qwen, LONG).input_ids)
    assert len(encode(qwen, LONG, max_length=length).input_ids) == length
    with pytest.raises(
        UserError, match=f"has {length} tokens, over max_length {length - 1}: .* or set truncate"
    ):
        encode(qwen, LONG, max_length=length - 1)


def test_truncating_lets_the_oldest_turns_go_and_keeps_the_system_message(tokenizers: dict[str, Any]) -> None:
    qwen = tokenizers["qwen-2.5"]
    length = len(encode(qwen, LONG).input_ids)
    assert encode(qwen, LONG, max_length=length - 1, truncate=True) == encode(qwen, [SYSTEM, *LONG[3:]])
    last = encode(qwen, [SYSTEM, *LONG[5:]])
    assert encode(qwen, LONG, max_length=len(last.input_ids), truncate=True) == last


def test_truncating_never_cuts_the_last_turn(tokenizers: dict[str, Any]) -> None:
    qwen = tokenizers["qwen-2.5"]
    tokens = len(encode(qwen, [SYSTEM, *LONG[5:]]).input_ids)
    with pytest.raises(
        UserError, match=f"has {tokens} tokens in its last turn, over max_length {tokens - 1}"
    ):
        encode(qwen, LONG, max_length=tokens - 1, truncate=True)


def test_rows_that_cannot_be_encoded_are_named_by_line(tokenizers: dict[str, Any]) -> None:
    qwen = tokenizers["qwen-2.5"]
    rows = [
        ChatRow(line, "k", None, messages, None)
        for line, messages in [(1, SINGLE), (2, LONG), (4, [user("?"), answer("<|im_end|>")]), (5, SINGLE)]
    ]
    limit = len(encode(qwen, SINGLE).input_ids)
    with pytest.raises(DatasetError) as caught:
        encode_rows(qwen, rows, source="rows.jsonl", max_length=limit)
    assert "rows.jsonl cannot be used: 2 lines to mend" in str(caught.value)
    assert [problem.line for problem in caught.value.problems] == [2, 4]
    assert encode_rows(qwen, [rows[0], rows[3]], source="rows.jsonl").examples == [encode(qwen, SINGLE)] * 2


def test_rows_that_cannot_be_encoded_are_left_out_where_that_is_asked_for(
    tokenizers: dict[str, Any],
) -> None:
    qwen = tokenizers["qwen-2.5"]
    rows = [
        ChatRow(line, "k", source, messages, None)
        for line, source, messages in [
            (1, None, LONG),
            (2, "fb_1", SINGLE),
            (3, "fb_2", [user("?"), answer("<|im_end|>")]),
        ]
    ]
    limit = len(encode(qwen, SINGLE).input_ids)
    encoded = encode_rows(qwen, rows, source="rows.jsonl", max_length=limit, leave_out=True)
    assert (encoded.examples, encoded.kept) == ([encode(qwen, SINGLE)], [1])
    told = [problem.sentence for problem in encoded.left_out]
    assert "line 1 has" in told[0]
    assert told[1].startswith("line 3 (fb_2) messages[1] holds the control token <|im_end|>")


def test_the_template_hash_changes_with_the_template_and_its_tokens(chatml: Any) -> None:
    before = template_hash(chatml)
    assert before.startswith("sha256:")
    assert template_hash(make_tokenizer("qwen-2.5")) == before
    chatml.eos_token = "<|endoftext|>"
    changed = template_hash(chatml)
    chatml.chat_template += " "
    assert len({before, changed, template_hash(chatml)}) == 3


def test_null_and_empty_tool_calls_render_as_an_answer(tokenizer: Any) -> None:
    plain = render(tokenizer, SINGLE)
    for calls in (None, []):
        assert render(tokenizer, [SINGLE[0], SINGLE[1] | {"tool_calls": calls}]) == plain
