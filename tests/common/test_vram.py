"""The planner's arithmetic, against published figures and against the libraries' own classes."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from common import vram
from common.errors import EXIT_TOO_BIG, UserError
from common.finetune_config import FinetuneConfig
from common.job_config import load_yaml
from common.vram import Serving, Shape, Training, plan_training, requirement
from common.vram.cards import CARDS, GIB, card, sold_as
from common.vram.shape import from_config, table
from common.vram.training import nf4_bytes

RECIPES = Path(__file__).resolve().parents[2] / "jobs" / "recipes"


def shape(name: str) -> Shape:
    found = vram.known(name)
    assert found
    return found


def memory(name: str) -> int:
    found = card(name)
    assert found
    return found.memory_bytes


LLAMA = shape("Llama-3.1-8B-Instruct")


@pytest.mark.parametrize("name", table())
def test_a_shipped_shape_has_the_published_number_of_parameters(name: str) -> None:
    record = table()[name]
    assert shape(name).parameters == record["parameters"]
    assert re.fullmatch(r"[0-9a-f]{40}", record["revision"])
    assert record["hub"].endswith(f"/{name}")
    assert record["licence"]


@pytest.mark.parametrize("name", ["Llama-3.1-8B", "meta-llama/Meta-Llama-3.1-8B-Instruct", "llama-3.1-8b"])
def test_a_shape_is_found_by_hub_id_and_by_its_base_models_name(name: str) -> None:
    assert shape(name).parameters == 8_030_261_248


@pytest.mark.parametrize(
    "name",
    [
        "Llama-3.2-1B-Instruct",
        "Qwen2.5-0.5B-Instruct",
        "Qwen3-0.6B",
        "Mistral-7B-Instruct-v0.3",
        "gemma-2-2b-it",
        "gemma-3-1b-it",
    ],
)
def test_parameters_are_those_of_transformers_own_model(name: str) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    values: dict[str, Any] = table()[name]["config"] | {"num_hidden_layers": 3}
    family = values.pop("model_type")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **values))
    three_layers = from_config(values | {"model_type": family}, name)
    assert three_layers.parameters == sum(parameter.numel() for parameter in model.parameters())
    linears = {
        name.rpartition(".")[2]: (module.in_features, module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and "layers.0." in name
    }
    assert three_layers.linears == linears


def test_biases_count_where_a_config_has_them() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    values = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 128,
        "max_position_embeddings": 64,
        "attention_bias": True,
        "mlp_bias": True,
    }
    model = LlamaForCausalLM(LlamaConfig(**values))
    expected = sum(parameter.numel() for parameter in model.parameters())
    assert from_config(values | {"model_type": "llama"}, "biased").parameters == expected


def test_nf4_takes_what_bitsandbytes_takes() -> None:
    import bitsandbytes.functional as bnb
    import torch

    packed, state = bnb.quantize_4bit(
        torch.randn(1536, 576, dtype=torch.bfloat16), compress_statistics=True, quant_type="nf4"
    )
    tensors = [packed, state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code]
    assert nf4_bytes(1536 * 576) == sum(tensor.nbytes for tensor in tensors)


def test_the_weights_of_8b_take_what_is_published() -> None:
    bf16 = plan_training(LLAMA, "lora").parts["base weights"]
    nf4 = plan_training(LLAMA, "qlora").parts["base weights"]
    assert bf16 / GIB == pytest.approx(14.96, abs=0.005)
    assert nf4 / GIB == pytest.approx(5.31, abs=0.01)  # 3.35 of packed layers, 1.96 of words in bf16


def test_8b_fits_the_cards_that_it_is_known_to_fit() -> None:
    lora = plan_training(LLAMA, "lora", length=512, batch=1)
    qlora = plan_training(LLAMA, "qlora", length=512, batch=1)
    assert not lora.fits(memory("rtx5060ti-16gb"))
    assert lora.fits(memory("rtx5090"))
    assert qlora.fits(memory("rtx5060ti-16gb"))
    assert not qlora.fits(memory("rtx5060ti-8gb"))


@pytest.mark.parametrize(("recipe", "name"), [("lora-32gb", "rtx5090"), ("qlora-16gb", "rtx5060ti-16gb")])
def test_a_shipped_recipe_fits_the_card_that_it_names(recipe: str, name: str) -> None:
    values = load_yaml(FinetuneConfig, RECIPES / f"{recipe}.yaml")
    config = FinetuneConfig(**values, data="rows.jsonl", output="out")
    plan = requirement(config, vram.shape_of(config.base, Path("/nowhere")))
    assert plan.fits(memory(name)), plan.sentence
    assert f"{sold_as(memory(name))}gb" in recipe


def test_the_real_rows_need_no_more_than_the_configuration_may() -> None:
    worst = Training(LLAMA, length=1024, batch=2)
    real = Training(LLAMA, length=900, batch=2, supervised=700)
    assert real.plan().total < worst.plan().total


@pytest.mark.parametrize("name", ["rtx5060ti-8gb", "rtx5060ti-16gb", "rtx5090"])
@pytest.mark.parametrize("method", ["lora", "qlora"])
@pytest.mark.parametrize("model", ["Llama-3.1-8B-Instruct", "Qwen2.5-1.5B-Instruct", "gemma-2-2b-it"])
def test_what_is_said_to_fit_fits_and_more_would_not(model: str, method: Any, name: str) -> None:
    asked = Training(shape(model), method, length=4096, batch=16, accumulation=2)
    for way in asked.ways(memory(name)):
        words = way.split()
        flags = dict(zip(words[::2], words[1::2], strict=True))
        batch, length = int(flags.get("--batch-size", 16)), int(flags.get("--max-length", 4096))
        planned: Any = flags.get("--method", method)
        assert plan_training(asked.shape, planned, length=length, batch=batch).fits(memory(name)), way
        more = (length + 64, batch) if "--max-length" in flags else (length, batch * 2)
        assert not plan_training(asked.shape, planned, length=more[0], batch=more[1]).fits(memory(name)), way
        assert int(flags["--gradient-accumulation"]) * batch == 32


def test_a_batch_that_was_left_to_the_planner_keeps_the_steps_rows() -> None:
    config = FinetuneConfig(base="llama", data="rows.jsonl", output="out", batch_size=6, method="qlora")
    fitting = vram.batch_for(config, LLAMA, memory("rtx5090"))
    assert fitting == {"batch_size": 3, "gradient_accumulation": 2}
    assert vram.batch_for(config, LLAMA, memory("rtx5060ti-8gb")) is None


def test_too_big_is_said_with_the_parts_and_what_would_fit() -> None:
    plan = plan_training(LLAMA, "lora", length=1024, batch=2)
    error = plan.too_big(memory("rtx5060ti-16gb"), "this card")
    assert error.exit_code == EXIT_TOO_BIG
    assert str(error) == (
        "LoRA of Llama-3.1-8B-Instruct, rank 16, batch 2 x 1024 tokens needs 32.2 GiB: base weights 15.0, "
        "adapter and optimizer 0.8, activations 11.3, loss and backward 3.0, CUDA and driver 1.1, allocator "
        "slack 1.1; this card has 15.9 GiB. Would fit: --method qlora --batch-size 1 "
        "--gradient-accumulation 2; or a card with 80 GB"
    )


def test_every_known_card_is_sold_with_the_gigabytes_that_its_name_says() -> None:
    assert [sold_as(known.memory_bytes) for known in CARDS] == [8, 16, 16, 24, 24, 32, 80]


def test_targets_that_the_model_has_not_are_named() -> None:
    with pytest.raises(UserError, match=r"has no w_proj in its layers: use all-linear, or some of q_proj"):
        plan_training(LLAMA, targets=["q_proj", "w_proj"])


def test_a_folder_without_weights_is_enough(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "My-Llama"
    folder.mkdir(parents=True)
    config = {"model_type": "llama"} | table()["SmolLM2-135M-Instruct"]["config"]
    (folder / "config.json").write_text(json.dumps(config))
    assert vram.shape_of("somebody/My-Llama", tmp_path / "cache").parameters == 134_515_008
    assert vram.shape_of(str(folder), tmp_path).name == "My-Llama"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            '{"model_type": "phi3"}',
            "is of type phi3, which the planner does not know: it knows llama",
        ),
        ('{"model_type": "llama"}', "does not describe a model: KeyError('num_attention_heads')"),
        ("not JSON", "does not describe a model"),
    ],
)
def test_a_config_that_cannot_be_planned_is_a_sentence(tmp_path: Path, content: str, sentence: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=re.escape(sentence)):
        vram.shape_of(str(tmp_path), tmp_path)


def test_an_unknown_name_is_told_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"fetch it with `python -m jobs.download org/nothing`"):
        vram.shape_of("org/nothing", tmp_path)


def test_a_token_of_8b_takes_128_kib_of_cache() -> None:
    one = Serving(LLAMA, context=8192, sequences=1)
    assert one.cache_bytes() == 8192 * 128 * 1024


def test_a_gib_of_cache_holds_the_tokens_that_vllm_says() -> None:
    """``GPU KV cache size: 46,592 tokens`` is what the demo's server logs for SmolLM2 and 1 GiB."""
    smol = shape("SmolLM2-135M-Instruct")
    assert Serving(smol, context=46_592, sequences=1).cache_bytes() <= GIB
    assert Serving(smol, context=46_592 + 16, sequences=1).cache_bytes() > GIB


def test_layers_with_a_window_cache_no_more_than_it_and_what_is_in_flight() -> None:
    gemma = Serving(shape("gemma-3-1b-it"), context=32768, sequences=1)
    page = 16 * 2 * 1 * 256 * 2
    full, sliding = 4 * 32768 // 16, 22 * ((511 + 2048 + 15) // 16 + 1)
    assert gemma.cache_bytes() == (full + sliding) * page


def test_slots_have_the_next_rank_that_vllm_takes_in_every_module() -> None:
    server = Serving(LLAMA, adapter_slots=3, max_rank=20)
    assert server.slot_rank == 32
    layers = 3 * 32 * 32 * sum(sum(size) for size in LLAMA.linears.values()) * 2
    words = 3 * 2 * 32 * (128256 + 4096) * 2
    assert server.adapter_bytes() == layers + words


def test_a_server_of_8b_in_bf16_wants_the_5090_and_in_fp8_the_16_gb_card() -> None:
    small, large = memory("rtx5060ti-16gb"), memory("rtx5090")
    bf16 = Serving(LLAMA, context=4096)
    assert bf16.plan().fits(large)
    assert not bf16.plan().fits(small)
    assert bf16.ways(small) == ["--precision fp8"]
    assert Serving(LLAMA, "fp8", context=4096).plan().fits(small)


def test_the_longest_context_fits_and_a_page_more_does_not() -> None:
    server = Serving(LLAMA, sequences=8).with_longest_context(memory("rtx5090"))
    assert server.plan().fits(memory("rtx5090"))
    longer = Serving(LLAMA, sequences=8, context=server.context + 16)
    assert not longer.plan().fits(memory("rtx5090"))
    assert f"--context {server.context}" in longer.ways(memory("rtx5090"))


def test_flags_hold_all_that_the_plan_counts() -> None:
    server = Serving(LLAMA, sequences=8, max_rank=64).with_longest_context(memory("rtx5090"))
    flags = server.flags(memory("rtx5090"))
    assert flags == {
        "--max-model-len": str(server.context),
        "--max-num-seqs": "32",
        "--max-num-batched-tokens": "2048",
        "--max-loras": "3",
        "--max-lora-rank": "64",
        "--max-cpu-loras": "16",
        "--gpu-memory-utilization": "0.973",
    }
    parts = server.plan().parts
    counted = sum(size for name, size in parts.items() if name != "CUDA and driver")
    seen_by_torch = int(31.36 * GIB)
    assert counted <= float(flags["--gpu-memory-utilization"]) * seen_by_torch
    assert Serving(LLAMA, "fp8").flags(memory("rtx5090"))["--quantization"] == "fp8_per_channel"
