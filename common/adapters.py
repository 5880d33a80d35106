"""A LoRA adapter's files in the object store, and the manifest that makes them one version.

``adapters/<bot>/<n>/`` holds ``adapter_model.safetensors``, ``adapter_config.json``, ``README.md`` and,
written last, ``manifest.json``: the version's name, its base with revision, its rank, each file's sha256, and
a digest over all of them that is also the version's ``sha256`` in MLflow and PostgreSQL.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel as Schema
from pydantic import ConfigDict, ValidationError

from common.errors import UserError
from common.models import BaseModel, file_sha256
from common.names import VersionName
from common.storage import MANIFEST

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"

VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as ``--max-lora-rank``."""


class AdapterError(UserError):
    """An adapter that is not what it should be; the sentence names the version and what differs."""


class FileEntry(Schema):
    """One file of an adapter."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str
    bytes: int


class AdapterManifest(Schema):
    """``manifest.json``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    base: str
    revision: str
    rank: int
    files: dict[str, FileEntry]
    sha256: str
    """``digest(files)``."""


def describe(folder: Path) -> dict[str, FileEntry]:
    """The entries for the files directly in ``folder``, all but a manifest."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != MANIFEST)
    return {path.name: FileEntry(sha256=file_sha256(path), bytes=path.stat().st_size) for path in files}


def digest(files: dict[str, FileEntry]) -> str:
    """sha256 in hex over the entries as JSON with sorted keys and no spaces."""
    entries = {name: entry.model_dump() for name, entry in files.items()}
    return hashlib.sha256(json.dumps(entries, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def make_manifest(folder: Path, *, name: VersionName, base: BaseModel, rank: int) -> AdapterManifest:
    """The manifest for the files in ``folder``, which is not written."""
    files = describe(folder)
    return AdapterManifest(
        name=str(name),
        base=base.name,
        revision=base.revision,
        rank=rank,
        files=files,
        sha256=digest(files),
    )


def read_manifest(text: bytes, name: VersionName) -> AdapterManifest:
    """The manifest of version ``name`` out of ``text``.

    Raises:
        AdapterError: it is damaged, or another version's.
    """
    try:
        manifest = AdapterManifest.model_validate_json(text)
    except ValidationError as error:
        raise AdapterError(f"{name}: its manifest.json is damaged: {error.errors()[0]['msg']}") from None
    if manifest.name != str(name):
        raise AdapterError(f"{name}: its manifest.json is that of {manifest.name}")
    if manifest.sha256 != digest(manifest.files) or {WEIGHTS, CONFIG} - manifest.files.keys():
        raise AdapterError(f"{name}: its manifest.json does not hold together: register the adapter again")
    if any(Path(file).name != file or file in ("", "..") for file in manifest.files):
        raise AdapterError(f"{name}: its manifest.json names files outside its folder")
    return manifest


def check_fit(manifest: AdapterManifest, *, base: str, revision: str | None, max_rank: int) -> None:
    """Check that a server of ``base`` at ``revision`` (None: not known) with ``max_rank`` can serve it.

    Raises:
        AdapterError: it was trained for another base or revision, or has too high a rank.
    """
    if manifest.base != base:
        raise AdapterError(f"{manifest.name} was trained on base {manifest.base}, and this server has {base}")
    if revision is not None and manifest.revision != revision:
        raise AdapterError(
            f"{manifest.name} was trained on {base} at revision {manifest.revision}, "
            f"and this server has {revision}: retrain it on that one"
        )
    if manifest.rank > max_rank:
        raise AdapterError(
            f"{manifest.name} has rank {manifest.rank}, and this server allows {max_rank}: "
            "raise vLLM's --max-lora-rank"
        )


def verify(folder: Path, manifest: AdapterManifest) -> None:
    """Check the files in ``folder`` against ``manifest``.

    Raises:
        AdapterError: a file is missing or is not what was registered.
    """
    for name, entry in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise AdapterError(f"{manifest.name}: {name} is missing")
        size, sha256 = path.stat().st_size, file_sha256(path)
        if (size, sha256) != (entry.bytes, entry.sha256):
            raise AdapterError(
                f"{manifest.name}: {name} is not what was registered: {size} bytes with sha256 "
                f"{sha256[:12]}..., expected {entry.bytes} bytes with {entry.sha256[:12]}..."
            )
    _check_rank(folder / CONFIG, manifest)


def highest_rank(config: dict[str, Any]) -> int:
    """The rank that a server needs for an ``adapter_config.json``: its own, or one of its modules'."""
    return max(map(int, [config["r"], *(config.get("rank_pattern") or {}).values()]))


def next_serving_rank(rank: int) -> int:
    """The smallest ``--max-lora-rank`` that vLLM takes and that holds ``rank``.

    Raises:
        UserError: vLLM has none that high.
    """
    for allowed in VLLM_RANKS:
        if rank <= allowed:
            return allowed
    raise UserError(f"rank {rank} is above {VLLM_RANKS[-1]}, the highest that vLLM serves")


def _check_rank(config: Path, manifest: AdapterManifest) -> None:
    rank = highest_rank(json.loads(config.read_bytes()))
    if rank != manifest.rank:
        raise AdapterError(
            f"{manifest.name}: adapter_config.json says rank {rank}, its manifest {manifest.rank}"
        )
