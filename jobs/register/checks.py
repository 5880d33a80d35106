"""Whether a PEFT adapter is one that the pinned vLLM can serve on a given base, read from headers alone.

Nothing is unpickled and no tensor is loaded: a safetensors file begins with the length of its header (8
bytes, little-endian) and the header, JSON of each tensor's name, dtype and shape
(https://huggingface.co/docs/safetensors#format).
"""

import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.adapters import CONFIG, VLLM_RANKS, WEIGHTS, highest_rank
from common.errors import UserError
from common.models import BaseModel

Shapes = dict[str, tuple[int, ...]]

LARGEST_HEADER = 100 << 20
DTYPES = {"F16", "BF16", "F32"}
# Initialisations that leave the base's weights as they are; the others are part of a changed base.
PLAIN_INITS = {"gaussian", "eva", "orthogonal", "mica", "lora_ga"}

_LORA_TENSOR = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<half>[AB])(\.default)?\.weight")

# What vLLM's PEFTHelper refuses (vllm/lora/peft_helper.py of 0.32), and what it would silently leave out.
_UNSERVABLE: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("use_dora", bool, "DoRA"),
    ("bias", lambda value: value not in (None, "none"), "trained biases"),
    ("lora_bias", bool, "biases in the adapter"),
    ("modules_to_save", bool, "modules trained in full (modules_to_save)"),
    ("trainable_token_indices", bool, "trained token embeddings"),
    ("target_parameters", bool, "adapters on bare parameters"),
    ("layer_replication", bool, "replicated layers"),
    ("alora_invocation_tokens", bool, "activated LoRA"),
    ("use_bdlora", bool, "block-diagonal LoRA"),
    ("use_qalora", bool, "QALoRA"),
    (
        "init_lora_weights",
        lambda value: isinstance(value, str) and value.lower() not in PLAIN_INITS,
        "an initialisation that changes the base",
    ),
)


def read_config(folder: Path) -> dict[str, Any]:
    """``adapter_config.json`` of the adapter in ``folder``.

    Raises:
        UserError: there is no adapter, or its configuration cannot be read.
    """
    path = folder / CONFIG
    try:
        config = json.loads(path.read_bytes())
    except OSError:
        raise UserError(f"{folder} holds no PEFT adapter: there is no {CONFIG} in it") from None
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise UserError(f"{path} holds no object with an adapter's settings")
    return config


def check(folder: Path, base: BaseModel, max_rank: int) -> int:
    """Check the adapter in ``folder`` against ``base`` and a vLLM that allows ``max_rank``; its rank.

    Raises:
        UserError: it cannot be served; the sentence says why.
    """
    config = read_config(folder)
    rank = _check_config(folder / CONFIG, config, max_rank)
    _check_tensors(_weights(folder), base, rank)
    return rank


def _check_config(path: Path, config: dict[str, Any], max_rank: int) -> int:
    if config.get("peft_type") != "LORA":
        raise UserError(f"{path}: peft_type is {config.get('peft_type')}, and vLLM serves LORA only")
    for key, unservable, words in _UNSERVABLE:
        if unservable(config.get(key)):
            raise UserError(f"{path}: {key} = {config[key]!r}: vLLM cannot serve {words}: train without")
    try:
        rank = highest_rank(config)
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path}: r = {config.get('r')!r} is no rank") from None
    if rank < 1 or rank > max_rank:
        ranks = ", ".join(map(str, VLLM_RANKS))
        raise UserError(
            f"{path}: rank {rank} cannot be served: this vLLM allows 1 to {max_rank} (--max-lora-rank, one "
            f"of {ranks}): train with a lower rank, or raise it there and in MAX_SERVING_RANK"
        )
    return rank


def _weights(folder: Path) -> Path:
    path = folder / WEIGHTS
    if path.is_file():
        return path
    if (folder / "adapter_model.bin").is_file():
        raise UserError(
            f"{folder}/adapter_model.bin is a pickle, which can run any code, and is not read. Convert it: "
            'python -c "import sys, torch; from safetensors.torch import save_file; '
            "save_file(torch.load(sys.argv[1] + '/adapter_model.bin', weights_only=True), "
            f"sys.argv[1] + '/{WEIGHTS}')\" {folder}"
        )
    raise UserError(f"{folder} holds no {WEIGHTS}")


def _check_tensors(weights: Path, base: BaseModel, rank: int) -> None:
    base_shapes = _base_shapes(base)
    halves: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, (dtype, shape) in _header(weights).items():
        match = _LORA_TENSOR.fullmatch(name)
        if not match or len(shape) != 2:
            raise UserError(f"{weights}: {name} is not a LoRA matrix of a linear layer: vLLM cannot serve it")
        if dtype not in DTYPES:
            raise UserError(f"{weights}: {name} is {dtype}: save the adapter in bf16, fp16 or fp32")
        halves.setdefault(match["module"], {})[match["half"]] = shape
    if not halves:
        raise UserError(f"{weights} holds no tensors")
    for module, shapes in halves.items():
        _check_module(weights, module, shapes, base, base_shapes, rank)


def _check_module(
    weights: Path,
    module: str,
    shapes: dict[str, tuple[int, ...]],
    base: BaseModel,
    base_shapes: Shapes,
    rank: int,
) -> None:
    """One layer's two matrices, A of shape (rank, in) and B of shape (out, rank), on a weight (out, in)."""
    if module.rpartition(".")[2] in ("lm_head", "embed_tokens"):
        raise UserError(
            f"{weights} changes {module}, which vLLM does not adapt: train its linear layers only"
        )
    expected = base_shapes.get(f"{module}.weight")
    if expected is None:
        raise UserError(f"{weights} does not fit base {base.name}, which has no layer {module}")
    if len(shapes) != 2:
        raise UserError(f"{weights}: {module} has only lora_{next(iter(shapes))}")
    a, b = shapes["A"], shapes["B"]
    if (b[0], a[1]) != expected:
        raise UserError(
            f"{weights} does not fit base {base.name}: {module} is {_times(expected)} there, "
            f"and the adapter is made for {_times((b[0], a[1]))}"
        )
    if a[0] != b[1] or a[0] > rank:
        raise UserError(f"{weights}: {module} has ranks {a[0]} and {b[1]}, and {CONFIG} says {rank}")


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _base_shapes(base: BaseModel) -> Shapes:
    files = sorted(base.path.glob("*.safetensors"))
    if not files:
        raise UserError(f"{base.path} holds no safetensors weights to compare the adapter with")
    return {name: shape for file in files for name, (_, shape) in _header(file).items()}


def _header(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, LARGEST_HEADER)))
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        end = max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
        found = {name: (str(entry["dtype"]), tuple(entry["shape"])) for name, entry in tensors.items()}
    except (OSError, struct.error, ValueError, AttributeError, KeyError, TypeError, IndexError):
        raise UserError(f"{path} is not a safetensors file") from None
    if path.stat().st_size != 8 + length + end:
        raise UserError(f"{path} is cut short: copy it again")
    return found
