"""A model's shape: the few numbers of its ``config.json`` that decide how much memory it takes.

The shapes are those of transformers' ``modeling_llama``, ``_mistral``, ``_qwen2``, ``_qwen3``, ``_gemma2``
and ``_gemma3`` (the text model); SmolLM2 is a Llama.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from common.errors import UserError
from common.models import local_name, looks_like_a_path

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text")
TABLE = Path(__file__).with_name("shapes.yaml")


@dataclass(frozen=True)
class Shape:
    """A decoder-only transformer with gated MLPs and RMSNorms; sizes are in elements."""

    name: str
    family: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied: bool
    max_positions: int
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    norms: int = 2
    """RMSNorms over the hidden size in each layer."""
    window: int | None = None
    """How far back a layer with sliding attention sees."""
    sliding_layers: int = 0
    attention_softcap: bool = False
    logit_softcap: bool = False

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """One layer's linear modules, which is what PEFT's ``all-linear`` means: name to (in, out)."""
        query, key = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return {
            "q_proj": (self.hidden, query),
            "k_proj": (self.hidden, key),
            "v_proj": (self.hidden, key),
            "o_proj": (query, self.hidden),
            "gate_proj": (self.hidden, self.intermediate),
            "up_proj": (self.hidden, self.intermediate),
            "down_proj": (self.intermediate, self.hidden),
        }

    @property
    def linear_parameters(self) -> int:
        """Weights of the layers' linear modules: what 4-bit quantisation packs."""
        return self.layers * sum(inputs * outputs for inputs, outputs in self.linears.values())

    @property
    def embedding_parameters(self) -> int:
        """The embedding and, where it is not tied to it, the output layer."""
        return self.vocab * self.hidden * (1 if self.tied else 2)

    @property
    def parameters(self) -> int:
        """All parameters, a tied output layer counted once."""
        linears = self.linears
        biases = 0
        if self.qkv_bias:
            biases += sum(linears[name][1] for name in ("q_proj", "k_proj", "v_proj"))
        if self.o_bias:
            biases += self.hidden
        if self.mlp_bias:
            biases += 2 * self.intermediate + self.hidden
        norms = self.norms * self.hidden + (2 * self.head_dim if self.qk_norm else 0)
        rest = self.layers * (biases + norms) + self.hidden
        return self.linear_parameters + self.embedding_parameters + rest

    def adapter_parameters(self, rank: int, targets: str | Sequence[str]) -> int:
        """LoRA on ``targets``: A is (rank, in) and B is (out, rank) for each (arXiv 2106.09685, 4.1)."""
        names = self.targeted(targets)
        return self.layers * rank * sum(sum(self.linears[name]) for name in names)

    def targeted(self, targets: str | Sequence[str]) -> list[str]:
        """The linear modules that ``targets`` names.

        Raises:
            UserError: a name is no linear module of this model's layers.
        """
        if isinstance(targets, str):
            return list(self.linears)
        unknown = [name for name in targets if name not in self.linears]
        if unknown:
            raise UserError(
                f"target_modules: {self.name} has no {', '.join(unknown)} in its layers: "
                f"use all-linear, or some of {', '.join(self.linears)}"
            )
        return list(dict.fromkeys(targets))


def from_config(config: Mapping[str, Any], name: str) -> Shape:
    """The shape that a ``config.json`` describes.

    Raises:
        UserError: it is of a family that the planner does not know.
    """
    family = str(config.get("model_type"))
    if family not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise UserError(f"{name} is of type {family}, which the planner does not know: it knows {known}")
    bias = bool(config.get("attention_bias", False))
    gemma = family.startswith("gemma")
    heads = int(config["num_attention_heads"])
    return Shape(
        name=name,
        family=family,
        hidden=int(config["hidden_size"]),
        intermediate=int(config["intermediate_size"]),
        layers=int(config["num_hidden_layers"]),
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=int(config.get("head_dim") or config["hidden_size"] // heads),
        vocab=int(config["vocab_size"]),
        tied=bool(config.get("tie_word_embeddings", gemma)),
        max_positions=int(config["max_position_embeddings"]),
        qkv_bias=bias or family == "qwen2",
        o_bias=bias and family != "qwen2",
        mlp_bias=bool(config.get("mlp_bias", False)),
        qk_norm=family in ("qwen3", "gemma3_text"),
        norms=4 if gemma else 2,
        window=config.get("sliding_window") if _sliding_layers(config, family) else None,
        sliding_layers=_sliding_layers(config, family),
        attention_softcap=bool(config.get("attn_logit_softcapping")),
        logit_softcap=bool(config.get("final_logit_softcapping")),
    )


def _sliding_layers(config: Mapping[str, Any], family: str) -> int:
    """Gemma 2 alternates, Gemma 3 has one full layer in six; a Mistral with a window has it in all."""
    if types := config.get("layer_types"):
        return sum(kind == "sliding_attention" for kind in types)
    layers = int(config["num_hidden_layers"])
    if family.startswith("gemma"):
        period = int(config.get("sliding_window_pattern", 2 if family == "gemma2" else 6))
        return layers - layers // period
    return layers if family == "mistral" and config.get("sliding_window") else 0


def from_folder(folder: Path, name: str | None = None) -> Shape:
    """The shape of the model in ``folder``.

    Raises:
        UserError: its ``config.json`` is missing or lacks what the planner needs.
    """
    path = folder / "config.json"
    try:
        return from_config(json.loads(path.read_bytes()), name or folder.resolve().name)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} does not describe a model: {error!r}") from None


def shape_of(base: str, cache_dir: Path) -> Shape:
    """The shape of ``base``: a folder, a model in ``cache_dir``, or a name or hub id of the shipped table.

    Raises:
        UserError: it is none of them.
    """
    folders = [Path(base).expanduser(), cache_dir.expanduser() / local_name(base)]
    for folder in folders:
        if (folder / "config.json").is_file():
            return from_folder(folder, local_name(base))
    if not looks_like_a_path(base) and (found := known(base)):
        return found
    raise UserError(
        f"the planner does not know the shape of {base}: fetch it with `python -m jobs.download {base}`, "
        f"name a folder with its config.json, or one of {', '.join(table())}"
    )


def known(name: str) -> Shape | None:
    """A shape of the shipped table, by name or hub id; a base model has its instruct model's shape."""
    wanted = _plain(local_name(name))
    for entry, record in table().items():
        if _plain(entry) == wanted:
            return from_config(record["config"], local_name(name))
    return None


@cache
def table() -> dict[str, dict[str, Any]]:
    """The shipped table: name to hub id, revision, licence, published parameter count and config values."""
    records: dict[str, dict[str, Any]] = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return records


def _plain(name: str) -> str:
    plain = name.lower().removeprefix("meta-")
    return plain.removesuffix("-instruct").removesuffix("-it").removesuffix("-pt").removesuffix("-base")
