"""What ``jobs.finetune`` takes of a card, part by part.

The loop keeps the base frozen, trains LoRA with ``jobs.finetune.optimizer``, computes logits at supervised
positions only, has no activation checkpointing, and calls no optimizer on the base. So accumulation costs
nothing, and the peak is at the beginning of a micro-batch's backward pass, when all that autograd kept is
there. ``tests/common/test_vram_measured.py`` compares these formulas with the tensors that autograd keeps.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from common.finetune_config import FinetuneConfig
from common.vram.cards import CONTEXT_BYTES, DRIVER_BYTES
from common.vram.plan import Plan
from common.vram.shape import Shape

Method = Literal["lora", "qlora"]
Precision = Literal["bf16", "fp32"]

NF4_BLOCK = 64
"""Weights that share a scale in bitsandbytes' NF4 (``Params4bit``'s default)."""

NF4_SCALE_BLOCK = 256
"""Scales that share a float32 scale of their own (double quantisation, arXiv 2305.14314, section 3)."""

NF4_TABLES = (16 + 256) * 4 + 4
"""Bytes of a module's two code books and its offset (bitsandbytes' ``QuantState``)."""

SLACK = 0.08
"""Share of what comes and goes in each step that torch's allocator cannot use again at once, for batches have
different lengths. With ``expandable_segments``, which ``jobs.finetune`` sets; not measured on a card."""

LENGTH_STEP = 64


@dataclass(frozen=True)
class Training:
    """One fine-tune: micro-batches of ``batch`` rows of ``length`` tokens, the longest that will come."""

    shape: Shape
    method: Method = "lora"
    rank: int = 16
    targets: str | Sequence[str] = "all-linear"
    length: int = 1024
    batch: int = 8
    accumulation: int = 1
    precision: Precision = "bf16"
    dropout: float = 0.0
    supervised: int | None = None
    """Supervised tokens of a micro-batch at most; None: every token."""

    @property
    def tokens(self) -> int:
        """Positions of one micro-batch, padding included."""
        return self.batch * self.length

    @property
    def width(self) -> int:
        """Bytes of one element of the compute's type."""
        return 2 if self.precision == "bf16" else 4

    def plan(self) -> Plan:
        """Bytes by part."""
        activations, peak = self.activation_bytes(), max(self.loss_bytes(), self.backward_bytes())
        work = f"{'QLoRA' if self.method == 'qlora' else 'LoRA'} of {self.shape.name}"
        return Plan(
            what=f"{work}, rank {self.rank}, batch {self.batch} x {self.length} tokens",
            parts={
                "base weights": self.weight_bytes(),
                "adapter and optimizer": self.adapter_bytes(),
                "activations": activations,
                "loss and backward": peak,
                "CUDA and driver": CONTEXT_BYTES + DRIVER_BYTES,
                "allocator slack": int(SLACK * (activations + peak)),
            },
            ways=self.ways,
        )

    def weight_bytes(self) -> int:
        """The base: every parameter in the compute's type, or the layers' linear modules in NF4.

        bitsandbytes packs two weights a byte, with one byte of scale for each block of 64 and a float32 for
        each 256 of those; transformers leaves embeddings, output layer, norms and biases as they are.
        """
        if self.method == "lora":
            return self.shape.parameters * self.width
        plain = self.shape.parameters - self.shape.linear_parameters
        packed = sum(nf4_bytes(inputs * outputs) for inputs, outputs in self.shape.linears.values())
        return plain * self.width + packed * self.shape.layers

    def adapter_bytes(self) -> int:
        """Each weight of the adapter: itself and its gradient in the compute's type, and in float32 its
        master, the master's gradient and Adam's two moments (``jobs.finetune.optimizer.MasterAdamW``)."""
        return self.shape.adapter_parameters(self.rank, self.targets) * (2 * self.width + 4 * 4)

    def activation_bytes(self) -> int:
        """What autograd keeps of the layers between forward and backward, and the final norm's input."""
        per_token = self.shape.layers * self.layer_bytes_per_token() + 4 * self.shape.hidden
        return self.tokens * per_token + self._window_bytes()

    def layer_bytes_per_token(self) -> int:
        """What one layer keeps for each token.

        - A norm: its input in float32 (``pow`` and ``mul`` keep the same tensor) and 1/rms, 4 bytes.
        - A frozen linear module keeps its weight only; its adapter's A keeps the input, which modules with
          one input share unless dropout makes each its own (mask and result), and B keeps A's output.
        - Attention: queries, keys, values, output, and log-sum-exp, 4 bytes a head (FlashAttention-2,
          arXiv 2307.08691). The output is what ``o_proj`` reads.
        - The gated MLP: SiLU keeps the gate's output, the product keeps both its factors.
        """
        shape, width = self.shape, self.width
        query, key = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        norms = shape.norms * 4 * (shape.hidden + 1)
        if shape.qk_norm:
            norms += 4 * (query + key + shape.heads + shape.kv_heads)
        gates = 3 * shape.intermediate * width
        return norms + self._adapter_input_bytes() + self._attention_bytes(query, key) + gates

    def _window_bytes(self) -> int:
        """Rows longer than a sliding window need a mask, which attention keeps as numbers in each such layer;
        and with a mask keys and values are repeated for each head (transformers' ``use_gqa_in_sdpa``)."""
        shape = self.shape
        if shape.window is None or self.length <= shape.window or shape.attention_softcap:
            return 0
        repeated = 2 * (shape.heads - shape.kv_heads) * shape.head_dim * self.width
        return self.tokens * (shape.sliding_layers * (repeated + self.length * self.width) + self.length)

    def _attention_bytes(self, query: int, key: int) -> int:
        """What attention keeps for a token, its output included.

        With capped scores (Gemma 2) it runs unfused: keys and values repeated for each head, and for each
        pair of positions the cap's output, the softmax in float32 and its cast.
        """
        if self.shape.attention_softcap:
            return 4 * query * self.width + self.shape.heads * self.length * (2 * self.width + 4)
        return (2 * query + 2 * key) * self.width + 4 * self.shape.heads

    def _adapter_input_bytes(self) -> int:
        names = self.shape.targeted(self.targets)
        inputs = {name: self.shape.linears[name][0] for name in names}
        ranks = len(names) * self.rank * self.width
        if self.dropout:
            return ranks + sum(inputs.values()) * (self.width + 1)
        shared = {"q_proj": "qkv", "k_proj": "qkv", "v_proj": "qkv", "gate_proj": "mlp", "up_proj": "mlp"}
        # o_proj's input is attention's output, which is counted there.
        once = {shared.get(name, name): size for name, size in inputs.items() if name != "o_proj"}
        return ranks + sum(once.values()) * self.width

    def loss_bytes(self) -> int:
        """At the end of the loss's backward pass: log-probabilities and two gradients of their size, float32.

        ``summed_nll`` makes logits at supervised positions only; cross entropy keeps log-softmax's result,
        the gradient of the likelihood is as large, and so is that of the logits before it becomes bf16. A
        capped output (Gemma 2) keeps tanh's result as well.
        """
        supervised = self.tokens if self.supervised is None else self.supervised
        capped = self.width if self.shape.logit_softcap else 0
        return supervised * (self.shape.vocab * (3 * 4 + capped) + self.shape.hidden * self.width)

    def backward_bytes(self) -> int:
        """What the last layer's backward pass makes while all that was kept is still there.

        Gradients of the MLP's four wide tensors, a norm's four in float32, and with NF4 the largest weight
        unpacked (``MatMul4Bit.backward``).
        """
        per_token = 4 * self.shape.intermediate * self.width + 4 * 4 * self.shape.hidden
        if self.shape.attention_softcap:
            per_token += self.shape.heads * self.length * (2 * self.width + 4)
        unpacked = max(inputs * outputs for inputs, outputs in self.shape.linears.values()) * self.width
        return self.tokens * per_token + (unpacked if self.method == "qlora" else 0)

    def ways(self, memory_bytes: int) -> list[str]:
        """What else of this fine-tune fits ``memory_bytes``: a smaller batch, shorter rows, a 4-bit base."""
        ways = self._smaller(memory_bytes)
        if self.method == "lora":
            packed = replace(self, method="qlora")
            if packed.plan().fits(memory_bytes):
                ways.append("--method qlora")
            else:
                ways += [f"--method qlora {way}" for way in packed._smaller(memory_bytes)]
        return ways

    def with_batch_for(self, memory_bytes: int) -> "Training | None":
        """The same steps in micro-batches that fit ``memory_bytes``, as large as can be; None when none fit.

        A step keeps its rows: batch times accumulation stays what it is.
        """
        rows = self.batch * self.accumulation
        for batch in range(self.batch, 0, -1):
            if rows % batch == 0:
                smaller = replace(self._with_batch(batch), accumulation=rows // batch)
                if smaller.plan().fits(memory_bytes):
                    return smaller
        return None

    def _smaller(self, memory_bytes: int) -> list[str]:
        if fitting := self.with_batch_for(memory_bytes):
            return [f"--batch-size {fitting.batch} --gradient-accumulation {fitting.accumulation}"]
        single = self._with_batch(1)
        for length in range((self.length - 1) // LENGTH_STEP * LENGTH_STEP, 0, -LENGTH_STEP):
            if single._with_length(length).plan().fits(memory_bytes):
                rows = self.batch * self.accumulation
                batch = f" --batch-size 1 --gradient-accumulation {rows}" if self.batch > 1 else ""
                return [f"--max-length {length}{batch}"]
        return []

    def _with_batch(self, batch: int) -> "Training":
        supervised = None if self.supervised is None else math.ceil(self.supervised * batch / self.batch)
        return replace(self, batch=batch, supervised=supervised)

    def _with_length(self, length: int) -> "Training":
        supervised = None if self.supervised is None else min(self.supervised, self.batch * length)
        return replace(self, length=length, supervised=supervised)


def nf4_bytes(weights: int) -> int:
    """One module's weights in NF4 with double quantisation, as bitsandbytes lays them out."""
    scales = math.ceil(weights / NF4_BLOCK)
    return math.ceil(weights / 2) + scales + 4 * math.ceil(scales / NF4_SCALE_BLOCK) + NF4_TABLES


def plan_training(
    shape: Shape,
    method: Method = "lora",
    rank: int = 16,
    targets: str | Sequence[str] = "all-linear",
    length: int = 1024,
    batch: int = 8,
    *,
    precision: Precision = "bf16",
    dropout: float = 0.0,
    supervised: int | None = None,
) -> Plan:
    """Bytes by part of a fine-tune whose micro-batches are at most ``batch`` rows of ``length`` tokens."""
    return Training(shape, method, rank, targets, length, batch, 1, precision, dropout, supervised).plan()


def requirement(config: FinetuneConfig, shape: Shape) -> Plan:
    """What a fine-tune may need at most: rows as long as ``max_length`` allows, every token supervised."""
    return of_config(config, shape).plan()


def batch_for(config: FinetuneConfig, shape: Shape, memory_bytes: int) -> dict[str, int] | None:
    """``batch_size`` and ``gradient_accumulation`` with which ``config``'s steps fit; None when none do.

    For whoever left the batch to us: the steps are those of ``config``, so the weights hardly differ.
    """
    fitting = of_config(config, shape).with_batch_for(memory_bytes)
    if fitting is None:
        return None
    return {"batch_size": fitting.batch, "gradient_accumulation": fitting.accumulation}


def of_config(config: FinetuneConfig, shape: Shape) -> Training:
    """The fine-tune that ``config`` describes; ``auto`` precision is bf16 on every card that can train."""
    return Training(
        shape,
        method=config.method,
        rank=config.rank,
        targets=config.targets,
        length=config.max_length,
        batch=config.batch_size,
        accumulation=config.gradient_accumulation,
        precision="fp32" if config.precision == "fp32" else "bf16",
        dropout=config.dropout,
    )
