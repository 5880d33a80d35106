"""A llama model in GGUF to an ordinary bf16 checkpoint, without torch: seconds instead of half a minute.

The same bytes come out on every machine, so the result has a digest to be known by. Names and the order of
rows follow llama.cpp's converter read backwards (``LlamaModel.permute`` in ``convert_hf_to_gguf.py``).
"""

import json
import math
import re
import struct
from pathlib import Path
from typing import Any

LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
OUTSIDE = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
CONTROL_TOKEN = 3  # llama.cpp's LLAMA_TOKEN_TYPE_CONTROL


def convert(gguf_file: Path, folder: Path) -> None:
    """Write the checkpoint for the model with tied embeddings in ``gguf_file`` to ``folder``."""
    import gguf

    reader = gguf.GGUFReader(gguf_file)
    facts = {key: field.contents() for key, field in reader.fields.items()}
    _write_json(folder / "config.json", _config(facts))
    _write_json(folder / "generation_config.json", _special_ids(facts))
    _write_json(folder / "tokenizer.json", _tokenizer(facts))
    _write_json(folder / "tokenizer_config.json", _tokenizer_config(facts))
    (folder / "chat_template.jinja").write_text(facts["tokenizer.chat_template"], encoding="utf-8")
    _write_weights(folder / "model.safetensors", reader.tensors, facts)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _special_ids(facts: dict[str, Any]) -> dict[str, Any]:
    names = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}
    return {key: facts[f"tokenizer.ggml.{name}_token_id"] for key, name in names.items()}


def _config(facts: dict[str, Any]) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        **_special_ids(facts),
        "hidden_act": "silu",
        "hidden_size": facts["llama.embedding_length"],
        "intermediate_size": facts["llama.feed_forward_length"],
        "max_position_embeddings": facts["llama.context_length"],
        "num_attention_heads": facts["llama.attention.head_count"],
        "num_hidden_layers": facts["llama.block_count"],
        "num_key_value_heads": facts["llama.attention.head_count_kv"],
        "rms_norm_eps": _shortest(facts["llama.attention.layer_norm_rms_epsilon"]),
        "rope_theta": _shortest(facts["llama.rope.freq_base"]),
        "tie_word_embeddings": True,
        "vocab_size": facts["llama.vocab_size"],
    }


def _shortest(single: float) -> float:
    """The number that was meant by a 32-bit float: 1e-05, not 9.999999747378752e-06."""
    import numpy

    return float(str(numpy.float32(single)))


def _tokenizer(facts: dict[str, Any]) -> dict[str, Any]:
    """A byte-level BPE as the ``tokenizers`` library reads it; ``smollm`` splits digits one by one."""
    tokens = facts["tokenizer.ggml.tokens"]
    kinds = facts["tokenizer.ggml.token_type"]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    digits = {"type": "Digits", "individual_digits": True}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": index, "content": token, **flags}
            for index, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
            if kind == CONTROL_TOKEN
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [digits, byte_level]},
        "post_processor": None,
        "decoder": {**byte_level, "add_prefix_space": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in facts["tokenizer.ggml.merges"]],
        },
    }


def _tokenizer_config(facts: dict[str, Any]) -> dict[str, Any]:
    tokens = facts["tokenizer.ggml.tokens"]
    names = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding", "unk_token": "unknown"}
    special = {key: tokens[facts[f"tokenizer.ggml.{name}_token_id"]] for key, name in names.items()}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": facts["llama.context_length"],
        **special,
    }


def _write_weights(path: Path, tensors: Any, facts: dict[str, Any]) -> None:
    """Header, then tensor by tensor, sorted by name (https://huggingface.co/docs/safetensors#format)."""
    heads = {"attn_q": facts["llama.attention.head_count"], "attn_k": facts["llama.attention.head_count_kv"]}
    by_name = {_name(tensor.name): tensor for tensor in tensors}
    with path.open("wb") as file:
        file.write(_header(by_name))
        for name in sorted(by_name):
            tensor = by_name[name]
            file.write(_bf16(_weight(tensor, heads.get(tensor.name.split(".")[-2]))))


def _header(by_name: dict[str, Any]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in sorted(by_name):
        shape = [int(size) for size in reversed(by_name[name].shape)]  # GGUF says the fastest size first
        begin, end = end, end + 2 * math.prod(shape)
        entries[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header


def _weight(tensor: Any, heads: int | None) -> Any:
    from gguf.quants import dequantize

    weight = dequantize(tensor.data, tensor.tensor_type)
    return weight if heads is None else _unpermute(weight, heads)


def _name(name: str) -> str:
    if name in OUTSIDE:
        return OUTSIDE[name]
    match = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", name)
    if not match or match[2] not in LAYER:
        raise ValueError(f"{name} is not a tensor of a llama model with tied embeddings")
    return f"model.layers.{match[1]}.{LAYER[match[2]]}.weight"


def _unpermute(weight: Any, heads: int) -> Any:
    """llama.cpp keeps each head's rotary pairs side by side; checkpoints keep them half a head apart."""
    pairs = weight.reshape(heads, weight.shape[0] // heads // 2, 2, weight.shape[1])
    return pairs.swapaxes(1, 2).reshape(weight.shape)


def _bf16(weight: Any) -> bytes:
    """The upper halves of float32 numbers, rounded to nearest, ties to even."""
    import numpy

    bits = numpy.ascontiguousarray(weight, dtype="<f4").view("<u4")
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    return bytes(rounded.astype("<u2").tobytes())
