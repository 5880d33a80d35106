"""From a checked folder to a version: number, files with the manifest last, address, report."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import logging
from common.adapters import CONFIG, WEIGHTS, describe, digest, make_manifest
from common.control_client import ControlClient, ControlRefused, ControlUnavailable
from common.errors import UserError
from common.models import BaseModel
from common.names import VersionName, check_bot_name
from common.registry import Provenance, RegisteredVersion, Registry, VersionTags
from common.storage import MANIFEST, Store, open_store
from jobs.register import checks


@dataclass(frozen=True)
class Destination:
    """Where versions go: files, MLflow and, where there is one, control."""

    store: Store
    registry: Registry
    control: ControlClient | None = None

    @classmethod
    def open(
        cls,
        store_url: str,
        tracking_uri: str | None,
        control_url: str | None = None,
        control_token: str | None = None,
    ) -> "Destination":
        """The three by their addresses; MLflow is asked, so that a wrong address shows before any work.

        Raises:
            UserError: none is named, or control is named without its token.
            RegistryUnavailable: MLflow is away.
            StorageUnavailable: the store cannot be opened.
        """
        if not tracking_uri:
            raise UserError("MLFLOW_TRACKING_URI is missing: a version lives in MLflow's registry")
        if control_url and not control_token:
            raise UserError("CONTROL_TOKEN is missing: control takes reports only with its token")
        registry = Registry(tracking_uri)
        registry.ping()
        control = ControlClient(control_url, control_token or "") if control_url else None
        return cls(open_store(store_url), registry, control)


def register_adapter(
    folder: Path,
    *,
    bot: str,
    base: BaseModel,
    to: Destination,
    provenance: Provenance | None = None,
    max_rank: int = 64,
) -> VersionName:
    """Make the adapter in ``folder`` the next version of ``bot``, or find the one that it already is.

    Raises:
        UserError: the adapter cannot be served on ``base``; nothing is half there then.
        RegistryUnavailable: MLflow is away; nor then.
        StorageUnavailable: the store is away; the next attempt goes on with the same number.
    """
    check_bot_name(bot)
    provenance = provenance or Provenance()
    rank = checks.check(folder, base, max_rank)
    with _staged(folder, bot, base, rank, provenance) as stage:
        tags = VersionTags(
            base=base.name,
            revision=base.revision,
            rank=rank,
            sha256=digest(describe(stage)),
            **provenance.model_dump(),
        )
        version = _number(bot, tags, to)
        if version.files is None:
            _upload(stage, version.name, base, rank, to)
    if to.control:
        _report(version.name, to.control)
    return version.name


@contextmanager
def _staged(folder: Path, bot: str, base: BaseModel, rank: int, provenance: Provenance) -> Iterator[Path]:
    """A folder with exactly the files that are kept; none of them names a path of this machine."""
    with tempfile.TemporaryDirectory() as temporary:
        stage = Path(temporary)
        (stage / WEIGHTS).symlink_to((folder / WEIGHTS).resolve())
        config = _plain(checks.read_config(folder)) | {"base_model_name_or_path": base.name}
        (stage / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        (stage / "README.md").write_text(_card(bot, base, rank, provenance))
        yield stage


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    """PEFT writes its sets of module names in any order; sorted, the same adapter has the same digest."""
    return {
        key: sorted(value) if isinstance(value, list) and all(isinstance(x, str) for x in value) else value
        for key, value in config.items()
    }


def _card(bot: str, base: BaseModel, rank: int, provenance: Provenance) -> str:
    facts: dict[str, Any] = {"base": base.name, "revision": base.revision, "rank": rank}
    facts |= provenance.model_dump(exclude={"figures"}, exclude_none=True)
    rows = "".join(f"| {key} | {value} |\n" for key, value in facts.items())
    front = f"---\nbase_model: {base.name}\nlibrary_name: peft\ntags: [lora]\n---\n"
    return f"{front}\n# {bot}\n\nA LoRA adapter for {base.name}.\n\n| | |\n|---|---|\n{rows}"


def _number(bot: str, tags: VersionTags, to: Destination) -> RegisteredVersion:
    """The version that this adapter of this run is already, finished or not, else a new one."""
    same = [version for version in to.registry.list(bot, unfinished=True) if _same(version.tags, tags)]
    if same:
        return max(same, key=lambda version: version.files is not None)
    name = to.registry.create_version(bot, tags)
    while to.store.exists(f"{name.folder}/{MANIFEST}"):  # of a bot that was deleted in MLflow by hand
        to.registry.delete(name)
        name = to.registry.create_version(bot, tags)
    return RegisteredVersion(name, tags, files=None, created_at=0.0)


def _same(one: VersionTags, other: VersionTags) -> bool:
    identity = {"base", "revision", "sha256", "job_id", "run_id"}
    return one.model_dump(include=identity) == other.model_dump(include=identity)


def _upload(stage: Path, name: VersionName, base: BaseModel, rank: int, to: Destination) -> None:
    manifest = make_manifest(stage, name=name, base=base, rank=rank)
    (stage / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n")
    to.store.put_folder(stage, name.folder)
    to.registry.complete(name, to.store.uri(name.folder))


def _report(name: VersionName, control: ControlClient) -> None:
    try:
        control.report_version(name)
    except (ControlUnavailable, ControlRefused) as error:
        logging.get("system").warning(
            "version not reported: control finds it in MLflow within 30 s of being back",
            version_name=str(name),
            reason=str(error),
        )
