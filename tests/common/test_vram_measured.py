"""The planner's training formulas against the real step: its tensors, and the most memory it holds at once.

On the CPU, where torch says exactly what it allocates; the tensors are the same on a card.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.finetune_config import FinetuneConfig
from common.models import BaseModel
from common.vram import Training, from_folder, of_config
from jobs.finetune.batches import IGNORED
from jobs.finetune.loss import summed_nll
from jobs.finetune.model import Trainable, load, torch_dtype
from jobs.finetune.optimizer import MasterAdamW

TOLERANCE = 0.02
"""Of the measured bytes. The first layer keeps a little less, for nothing before it learns."""

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 176,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 512,
    "max_position_embeddings": 512,
    "sliding_window": None,
}


@pytest.fixture(autouse=True)
def attention_as_on_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """No float32 copies of short rows, which only a CPU makes."""
    monkeypatch.setattr("jobs.finetune.attention.SHORT", 0)


class Step:
    """A model with its adapter as a run has it, and one micro-batch."""

    def __init__(self, folder: Path, batch: int, length: int, supervised: int, **values: Any) -> None:
        import torch

        values = {"precision": "bf16", "batch_size": batch, "max_length": length} | values
        config = FinetuneConfig(base=str(folder), data="rows.jsonl", output=Path("out"), **values)
        self.trainable: Trainable = load(config, BaseModel(folder, "model", "revision"))
        parameters = self.trainable.adapter_parameters()
        dtype = torch_dtype(self.trainable.precision)
        self.optimizer = MasterAdamW(parameters, weight_decay=0.0, dtype=dtype)
        self.trainable.peft.train()
        self.ids = torch.randint(0, 500, (batch, length))
        self.targets = self.ids.clone()
        self.targets.view(-1)[supervised:] = IGNORED
        self.planned: Training = replace(of_config(config, from_folder(folder)), supervised=supervised)

    def loss(self) -> Any:
        """The forward pass."""
        return summed_nll(self.trainable.peft, self.trainable.head, self.ids, self.targets)

    def kept_by_layers(self) -> int:
        """Bytes of the tensors that autograd keeps, without the model's own and the loss's."""
        import torch

        own = {parameter.untyped_storage().data_ptr() for parameter in self.trainable.peft.parameters()}
        kept: dict[int, tuple[int, Any]] = {}

        def pack(tensor: Any) -> Any:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                kept[storage.data_ptr()] = (storage.nbytes(), tensor)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            self.loss()
        words = self.planned.shape.vocab
        of_the_loss = {id(tensor) for _, tensor in kept.values() if tensor.shape[-1:] == (words,)}
        return sum(size for size, tensor in kept.values() if id(tensor) not in of_the_loss)

    def peak(self) -> int:
        """The most bytes that forward and backward hold at once, besides what was there before."""
        with _recording() as events:
            self.loss().backward()
        held = most = 0
        for event in sorted(events, key=lambda event: event.start_ns()):
            held += event.nbytes()
            most = max(most, held)
        for _, parameter in self.trainable.adapter_parameters():
            parameter.grad = None
        return int(most)


@contextmanager
def _recording() -> Iterator[list[Any]]:
    """torch's own record of what it allocates and frees; negative when freed."""
    from torch.profiler import ProfilerActivity, profile

    events: list[Any] = []
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        yield events
    results = recorded.profiler.kineto_results.events()
    events += [event for event in results if event.name() == "[memory]"]


def tiny(folder: Path, family: str, **values: Any) -> Path:
    """Six random layers of ``family``."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(family, **(SIZES | values))
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("family", "values", "settings"),
    [
        ("llama", {}, {}),
        ("llama", {}, {"target_modules": "q_proj,v_proj", "rank": 4}),
        ("llama", {}, {"precision": "fp32"}),
        ("mistral", {}, {}),
        ("qwen2", {"head_dim": 16}, {}),
        ("qwen3", {}, {}),
        ("gemma2", {"sliding_window": 4096}, {}),
        ("gemma3_text", {"sliding_window": 4096}, {}),
        ("gemma3_text", {"sliding_window": 32}, {}),
    ],
)
def test_autograd_keeps_what_the_plan_says(
    tmp_path: Path, family: str, values: dict[str, Any], settings: dict[str, Any]
) -> None:
    step = Step(tiny(tmp_path, family, **values), 3, 96, 100, **settings)
    assert step.planned.activation_bytes() == pytest.approx(step.kept_by_layers(), rel=TOLERANCE)


def test_the_adapter_and_its_optimizer_take_what_the_plan_says(tmp_path: Path) -> None:
    step = Step(tiny(tmp_path, "llama"), 2, 32, 40, rank=8)
    step.loss().backward()
    parameters = [parameter for _, parameter in step.trainable.adapter_parameters()]
    held = sum(parameter.nbytes + parameter.grad.nbytes for parameter in parameters)
    state = [*step.optimizer.tensors().values(), step.optimizer.gradient]
    held += sum(tensor.nbytes for tensor in state if tensor.ndim)  # all but Adam's count of steps
    assert step.planned.adapter_bytes() == held


def test_the_base_in_nf4_takes_what_the_plan_says(tmp_path: Path) -> None:
    step = Step(tiny(tmp_path, "llama"), 1, 32, 20, method="qlora")
    held = 0
    for name, parameter in step.trainable.peft.named_parameters():
        held += 0 if "lora_" in name else parameter.nbytes
        state = getattr(parameter, "quant_state", None)
        if state is not None:
            parts = (state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code)
            held += sum(part.nbytes for part in parts)
    assert step.planned.weight_bytes() == held
    assert step.planned.activation_bytes() == pytest.approx(step.kept_by_layers(), rel=TOLERANCE)


@pytest.fixture(scope="module")
def smollm(base_model: Path) -> Step:
    return Step(base_model, 2, 64, 64)


def test_smollm_keeps_what_the_plan_says(smollm: Step) -> None:
    assert smollm.planned.activation_bytes() == pytest.approx(smollm.kept_by_layers(), rel=TOLERANCE)


@pytest.mark.parametrize("supervised", [64, 2])
def test_smollm_holds_at_most_what_the_plan_says(smollm: Step, supervised: int) -> None:
    smollm.targets.view(-1)[supervised:] = IGNORED
    planned = replace(smollm.planned, supervised=supervised)
    most = planned.activation_bytes() + max(planned.loss_bytes(), planned.backward_bytes())
    assert most == pytest.approx(smollm.peak(), rel=TOLERANCE)
