"""Adapters as they should not be, made from a trained one and put into the store under names of their own."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from common.adapters import CONFIG, WEIGHTS, make_manifest
from common.models import default_cache_dir, resolve
from common.names import VersionName
from common.storage import MANIFEST, Store

Tensors = dict[str, torch.Tensor]


def publish(store: Store, folder: Path, name: str, base: Path) -> None:
    """Make the adapter in ``folder`` the version ``name`` of the store."""
    version = VersionName.parse(name)
    assert version is not None
    rank = json.loads((folder / CONFIG).read_text())["r"]
    manifest = make_manifest(folder, name=version, base=resolve(base, default_cache_dir()), rank=rank)
    (folder / MANIFEST).write_text(manifest.model_dump_json())
    store.put_folder(folder, version.folder)


def vary(trained: Path, folder: Path, change: Callable[[Tensors], Tensors]) -> Path:
    """A copy of the adapter ``trained`` in ``folder`` with its weights changed."""
    folder.mkdir()
    shutil.copy(trained / CONFIG, folder / CONFIG)
    save_file(change(load_file(trained / WEIGHTS)), folder / WEIGHTS)
    return folder


def without_effect(tensors: Tensors) -> Tensors:
    """B is zero: the base answers."""
    return {name: tensor * 0 if "lora_B" in name else tensor for name, tensor in tensors.items()}


def scaled(factor: float) -> Callable[[Tensors], Tensors]:
    """B is larger by ``factor``, as where alpha / rank was applied twice."""
    return lambda tensors: {
        name: tensor * factor if "lora_B" in name else tensor for name, tensor in tensors.items()
    }
