"""Real LoRA adapters with random weights, in a store."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import adapters, models
from common.models import BaseModel
from common.names import VersionName
from common.storage import MANIFEST, Store


@dataclass
class Publisher:
    """Makes adapters for ``base_model`` and puts them where ``jobs.register`` would."""

    base_model: Path
    store: Store
    folder: Path

    @property
    def base(self) -> BaseModel:
        """What the base model's record says."""
        return models.resolve(self.base_model, self.base_model.parent)

    def publish(
        self, name: str, *, rank: int = 8, seed: int = 0, claims: dict[str, Any] | None = None
    ) -> VersionName:
        """Publish an adapter; ``claims`` replace fields of its manifest."""
        version = VersionName.parse(name)
        assert version
        made = make_adapter(self.base_model, self.folder / f"{rank}-{seed}", rank=rank, seed=seed)
        manifest = adapters.make_manifest(made, name=version, base=self.base, rank=rank)
        (made / MANIFEST).write_text(manifest.model_copy(update=claims or {}).model_dump_json())
        self.store.put_folder(made, version.folder)
        return version

    def publish_files(self, name: str, files: dict[str, bytes], rank: int = 8) -> VersionName:
        """Publish whatever is in ``files`` with a manifest that fits it."""
        version = VersionName.parse(name)
        assert version
        folder = self.folder / name
        folder.mkdir()
        for file, content in files.items():
            (folder / file).write_bytes(content)
        manifest = adapters.make_manifest(folder, name=version, base=self.base, rank=rank)
        (folder / MANIFEST).write_text(manifest.model_dump_json())
        self.store.put_folder(folder, version.folder)
        return version


def make_adapter(base_model: Path, folder: Path, *, rank: int, seed: int) -> Path:
    """A LoRA adapter for every linear layer, as peft saves it, whose A and B are random."""
    if folder.exists():
        return folder
    import numpy as np
    from safetensors import safe_open
    from safetensors.numpy import save_file

    random = np.random.default_rng(seed)
    weights = {}
    with safe_open(base_model / "model.safetensors", "numpy") as base:
        for name in base.keys():  # noqa: SIM118 - it is no mapping
            if not name.endswith("_proj.weight"):
                continue
            wide, deep = base.get_slice(name).get_shape()
            module = f"base_model.model.{name.removesuffix('.weight')}"
            a, b = random.normal(size=(rank, deep)), random.normal(size=(wide, rank))
            weights[f"{module}.lora_A.weight"] = (a / deep**0.5).astype(np.float32)
            weights[f"{module}.lora_B.weight"] = (b * 0.1).astype(np.float32)
    folder.mkdir()
    save_file(weights, folder / adapters.WEIGHTS)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": "all-linear"}
    (folder / adapters.CONFIG).write_text(json.dumps(config))
    return folder
