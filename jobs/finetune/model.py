"""The model: the frozen base in bf16 or 4 bits, a LoRA adapter on it, and the adapter's files."""

import json
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.finetune_config import FinetuneConfig
from common.models import BaseModel
from common.storage import fsync_folder
from jobs.finetune import attention
from jobs.finetune.files import write_durably
from jobs.finetune.loss import SupervisedHead


@dataclass(frozen=True)
class Trainable:
    """A base model with its adapter."""

    peft: Any
    head: SupervisedHead
    device: Any
    precision: str
    """``bf16`` or ``fp32``: the compute's type; 4-bit weights are unpacked to it."""

    def adapter_parameters(self) -> list[tuple[str, Any]]:
        """The parameters that train, by name, always in the same order."""
        return [
            (name, parameter) for name, parameter in self.peft.named_parameters() if parameter.requires_grad
        ]


def load_tokenizer(base: BaseModel) -> Any:
    """The base's own tokenizer, with its chat template."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base.path, local_files_only=True)


def load(config: FinetuneConfig, base: BaseModel) -> Trainable:
    """Load the base on the device this process has and attach a fresh adapter, seeded by ``config.seed``."""
    import torch

    device = (
        torch.device("cuda", torch.cuda.current_device())
        if torch.cuda.is_available()
        else torch.device("cpu")
    )
    precision = choose_precision(config.precision, device)
    _quieten()
    model = _load_base(config, base, device, precision)
    torch.manual_seed(config.seed)
    peft = _attach(config, base, model)
    return Trainable(peft, SupervisedHead(model), device, precision)


def choose_precision(asked: str, device: Any) -> str:
    """``asked``, or for ``auto`` bf16 where the device computes in it and fp32 where it would emulate it."""
    import torch

    if asked != "auto":
        return asked
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return "bf16" if native else "fp32"


def torch_dtype(precision: str) -> Any:
    """torch's type of ``bf16`` or ``fp32``."""
    import torch

    return {"bf16": torch.bfloat16, "fp32": torch.float32}[precision]


def save_adapter(trainable: Trainable, base: BaseModel, folder: Path) -> None:
    """Write the adapter as PEFT and vLLM load it; ``folder`` appears whole or not at all."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save

    weights = get_peft_model_state_dict(trainable.peft, save_embedding_layers=False)
    config = trainable.peft.peft_config["default"].to_dict() | {"inference_mode": True}
    config = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    # One name: what a killed run left half-written is written over, and the output's lock keeps others out.
    temporary = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    write_durably(temporary / "adapter_config.json", json.dumps(config, indent=2, sort_keys=True).encode())
    write_durably(temporary / "README.md", _card(base, config["r"]).encode())
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(weights.items())}
    write_durably(temporary / "adapter_model.safetensors", save(contiguous, metadata={"format": "pt"}))
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
    fsync_folder(folder.parent)


def _load_base(config: FinetuneConfig, base: BaseModel, device: Any, precision: str) -> Any:
    from transformers import AutoModelForCausalLM

    options: dict[str, Any] = {
        "dtype": torch_dtype(precision),
        "attn_implementation": _attention(base, device, precision),
    }
    if config.method == "qlora":
        options["quantization_config"] = _nf4(precision)
    if config.method == "qlora" or device.type == "cuda":
        options["device_map"] = {"": device}
    model = AutoModelForCausalLM.from_pretrained(base.path, local_files_only=True, **options)
    return model.requires_grad_(False)


def _attention(base: BaseModel, device: Any, precision: str) -> str:
    """torch's fused attention, but where scores are capped (Gemma 2), which it cannot do."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(base.path, local_files_only=True)
    return "eager" if getattr(config, "attn_logit_softcapping", None) else attention.fused(device, precision)


def _nf4(precision: str) -> Any:
    """4-bit NormalFloat with quantised scales, as in QLoRA (arXiv 2305.14314)."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch_dtype(precision),
    )


def _attach(config: FinetuneConfig, base: BaseModel, model: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(
        task_type="CAUSAL_LM",
        revision=base.revision,
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=config.targets,
        use_rslora=config.rslora,
    )
    try:
        with warnings.catch_warnings(action="ignore", category=FutureWarning):  # PEFT's use of transformers
            peft = get_peft_model(model, lora)
    except ValueError as error:
        raise UserError(f"target_modules = {config.target_modules}: {error}") from None
    peft.peft_config["default"].base_model_name_or_path = base.name
    return peft


def _quieten() -> None:
    """Progress bars and hints of the libraries would tear our own progress bar."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


def _card(base: BaseModel, rank: int) -> str:
    return (
        f"---\nbase_model: {base.name}\nlibrary_name: peft\n---\n"
        f"A LoRA adapter of rank {rank} for {base.name} at revision {base.revision}, trained by Onggi.\n"
    )
