"""What vLLM takes of a card, part by part, and the flags that follow from it.

Read in vLLM 0.32's source: ``v1/worker/gpu_worker.py`` (what it counts before it fills the rest with KV
cache), ``lora/layers`` (what a slot holds), ``v1/kv_cache_interface.py`` (pages), ``config/vllm.py`` (graph
sizes). No card was there to compare these plans with.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

from common.adapters import next_serving_rank
from common.vram.cards import CONTEXT_BYTES, DRIVER_BYTES, MIB
from common.vram.plan import Plan
from common.vram.shape import Shape

ServingPrecision = Literal["bf16", "fp8", "awq"]

BYTES_PER_WEIGHT: dict[ServingPrecision, float] = {
    "bf16": 2.0,
    # float8_e4m3 with a float32 scale for each output channel or tensor, which is nothing beside it.
    "fp8": 1.0,
    # 4 bits, and for each group of 128 a scale of 16 bits and a zero point of 4 (AutoAWQ, GEMM layout).
    "awq": 0.5 + (2 + 0.5) / 128,
}
"""Of the layers' linear modules; embeddings, output layer, norms and biases stay in bf16."""

PRECISIONS: tuple[ServingPrecision, ...] = ("bf16", "fp8", "awq")
"""Fewer and fewer bits."""

LEAST_CONTEXT = 1024
"""A shorter conversation is not worth the name."""

BLOCK = 16
"""Tokens of a page of the KV cache (``CacheConfig.block_size``'s default on CUDA)."""

BATCHED_TOKENS = 2048
"""``--max-num-batched-tokens`` that vLLM takes for its API server on cards under 70 GiB."""

SAMPLER_BYTES = 26
"""For each sequence and word of the vocabulary: logits in bf16 and float32, and for top-p a sort's values and
int64 indices, their softmax and its sum (``Sampler``, run at full width while vLLM measures)."""

GRAPH_BYTES = 48 * MIB
"""CUDA graphs of one batch size, with and without adapters: vllm#25914 logs 2.38 GiB for 51 sizes."""

SHORTER = 4
"""So many times more conversations are let in than fit at full length, for most are far shorter; when they
are not, vLLM puts some off."""

WORD_SLOTS = ("llama", "mistral", "qwen3")
"""Families whose ``embedding_modules`` give embedding and output layer slots of their own in vLLM."""

HEADROOM = 256 * MIB
"""Left free on the card, so that vLLM's start does not fail on what else is there."""

SPARE_ADAPTERS = 16
"""``--max-cpu-loras`` at least: adapters kept in the pod's memory, so that they need not be read again."""


@dataclass(frozen=True)
class Serving:
    """One vLLM server whose KV cache holds ``sequences`` conversations of ``context`` tokens at once."""

    shape: Shape
    precision: ServingPrecision = "bf16"
    context: int = 8192
    sequences: int = 8
    adapter_slots: int = 3
    """Adapters in one batch: champion, candidate and one that is asked for by its number or judged."""
    max_rank: int = 16

    @property
    def max_sequences(self) -> int:
        """``--max-num-seqs``: conversations that are answered at once."""
        return SHORTER * self.sequences

    @property
    def slot_rank(self) -> int:
        """``--max-lora-rank``: the next that vLLM takes; every slot has room for it."""
        return next_serving_rank(self.max_rank)

    def plan(self) -> Plan:
        """Bytes by part."""
        return Plan(
            what=(
                f"serving {self.shape.name} in {self.precision}, {self.sequences} x {self.context} tokens, "
                f"{self.adapter_slots} adapters of rank {self.slot_rank}"
            ),
            parts={
                "weights": self.weight_bytes(),
                "adapter slots": self.adapter_bytes(),
                "KV cache": self.cache_bytes(),
                "activations": self.activation_bytes(),
                "CUDA graphs": self.graph_bytes(),
                "CUDA and driver": CONTEXT_BYTES + DRIVER_BYTES + HEADROOM,
            },
            ways=self.ways,
        )

    def weight_bytes(self) -> int:
        """Every parameter: those of the layers' linear modules in ``precision``, the others in bf16."""
        linear = self.shape.linear_parameters
        return math.ceil(linear * BYTES_PER_WEIGHT[self.precision]) + (self.shape.parameters - linear) * 2

    def adapter_bytes(self) -> int:
        """Slots are allocated whole at the start: A and B of every linear module at the slots' rank, in bf16.

        ``BaseLinearLayerWithLoRA.create_lora_weights``; families with ``embedding_modules`` have an A and a B
        of the vocabulary's size for the embedding and for the output layer besides.
        """
        elements = self.shape.adapter_parameters(self.slot_rank, "all-linear")
        if self.shape.family in WORD_SLOTS:
            elements += 2 * self.slot_rank * (self.shape.vocab + self.shape.hidden)
        return self.adapter_slots * elements * 2

    def cache_bytes(self) -> int:
        """Keys and values of every layer in bf16 for all sequences at full length, in whole pages.

        A layer with a sliding window holds window - 1 tokens and those in flight
        (``SlidingWindowSpec.max_admission_blocks_per_request``).
        """
        page = BLOCK * 2 * self.shape.kv_heads * self.shape.head_dim * 2
        full, sliding = self.shape.layers - self.shape.sliding_layers, self.shape.sliding_layers
        pages = full * math.ceil(self.context / BLOCK)
        if self.shape.window and sliding:
            seen = min(self.shape.window - 1 + BATCHED_TOKENS, self.context)
            pages += sliding * (math.ceil(seen / BLOCK) + 1)
        return self.sequences * pages * page

    def activation_bytes(self) -> int:
        """The peak that vLLM measures: one layer on a full batch of tokens, and the sampler at full width.

        A layer without gradients holds the residual stream, the normed input, and the MLP's two wide halves
        and their product, which is more than attention holds.
        """
        layer = BATCHED_TOKENS * (3 * self.shape.hidden + 3 * self.shape.intermediate) * 2
        return layer + self.max_sequences * self.shape.vocab * SAMPLER_BYTES

    def graph_bytes(self) -> int:
        """Graphs for 1, 2, 4, every eighth size and, above 256, every sixteenth, up to twice
        ``max_sequences`` and to 512 (``VllmConfig._set_cudagraph_sizes``)."""
        largest = min(2 * self.max_sequences, 512)
        sizes = len([1, 2, 4]) + len(range(8, min(largest, 256) + 1, 8)) + len(range(272, largest + 1, 16))
        return sizes * GRAPH_BYTES

    def flags(self, memory_bytes: int) -> dict[str, str]:
        """vLLM's flags for a card that has ``memory_bytes`` for this server alone.

        ``--gpu-memory-utilization`` is a share of what torch sees, and vLLM refuses to start when less is
        free: all but the context and some headroom. What the plan leaves becomes KV cache.
        """
        seen = memory_bytes - DRIVER_BYTES
        share = math.floor((seen - CONTEXT_BYTES - HEADROOM) / seen * 1000) / 1000
        flags = {
            "--max-model-len": str(self.context),
            "--max-num-seqs": str(self.max_sequences),
            "--max-num-batched-tokens": str(BATCHED_TOKENS),
            "--max-loras": str(self.adapter_slots),
            "--max-lora-rank": str(self.slot_rank),
            "--max-cpu-loras": str(max(SPARE_ADAPTERS, self.adapter_slots)),
            "--gpu-memory-utilization": f"{share:.3f}",
        }
        # Packs a bf16 checkpoint as it loads; an AWQ checkpoint says by itself what it is.
        return flags | ({"--quantization": "fp8_per_channel"} if self.precision == "fp8" else {})

    def with_longest_context(self, memory_bytes: int) -> "Serving":
        """The same server with the longest context that fits, whole pages of it; this one when none does."""
        limit = self.shape.max_positions // BLOCK
        low, high = 0, limit
        while low < high:
            middle = (low + high + 1) // 2
            fits = replace(self, context=middle * BLOCK).plan().fits(memory_bytes)
            low, high = (middle, high) if fits else (low, middle - 1)
        return replace(self, context=low * BLOCK) if low else self

    def ways(self, memory_bytes: int) -> list[str]:
        """What else of this server fits: shorter contexts, fewer sequences at once, fewer bits a weight."""
        ways = self._shorter(memory_bytes)
        for sequences in range(self.sequences - 1, 0, -1):
            if replace(self, sequences=sequences).plan().fits(memory_bytes):
                ways.append(f"--sequences {sequences}")
                break
        for precision in PRECISIONS[PRECISIONS.index(self.precision) + 1 :]:
            packed = replace(self, precision=precision)
            if packed.plan().fits(memory_bytes):
                return [*ways, f"--precision {precision}"]
            ways += [f"--precision {precision} {way}" for way in packed._shorter(memory_bytes)]
        return ways

    def _shorter(self, memory_bytes: int) -> list[str]:
        context = self.with_longest_context(memory_bytes).context
        return [f"--context {context}"] if LEAST_CONTEXT <= context < self.context else []


def plan_serving(
    shape: Shape,
    precision: ServingPrecision = "bf16",
    context: int = 8192,
    sequences: int = 8,
    adapter_slots: int = 3,
    max_rank: int = 16,
) -> Plan:
    """Bytes by part of a vLLM server that holds ``sequences`` conversations of ``context`` tokens at once."""
    return Serving(shape, precision, context, sequences, adapter_slots, max_rank).plan()
