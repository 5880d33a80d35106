"""Base models on disk: a folder with an ordinary checkpoint and ``onggi.json``, which says what it is.

``MODEL_CACHE_DIR/<name>`` holds what ``python -m jobs.download`` fetched; nothing else writes there.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel as Schema
from pydantic import ConfigDict, ValidationError

from common.errors import UserError

RECORD = "onggi.json"


class ModelRecord(Schema):
    """``onggi.json``: the name a base model is served by, its revision, its origin and its files' sha256."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    revision: str
    """The hub's commit, or ``sha256:`` and the digest over the files."""
    source: str
    """``hub:<org>/<name>``, ``local:<folder>`` or ``package:<name>==<version>``."""
    sha256: dict[str, str]


@dataclass(frozen=True)
class BaseModel:
    """A base model that is there: its folder, the name it is served by and its revision."""

    path: Path
    name: str
    revision: str


def default_cache_dir() -> Path:
    """``MODEL_CACHE_DIR`` where it is not set: ``${ONGGI_CACHE:-~/.cache/onggi}/models``."""
    return Path(os.environ.get("ONGGI_CACHE") or "~/.cache/onggi").expanduser() / "models"


def resolve(name_or_path: str | Path, cache_dir: Path) -> BaseModel:
    """Find a base model by its name, its hub id or its folder.

    A folder that ``jobs.download`` did not make has no record: it is named after itself, and its revision is
    the digest of its files, which is read in full.

    Raises:
        UserError: it is not there; the sentence names the command that fetches it.
    """
    text = str(name_or_path)
    if (folder := Path(text).expanduser()).joinpath("config.json").is_file():
        return _describe(folder)
    if looks_like_a_path(text):
        raise UserError(f"{text} holds no model: there is no config.json in it")
    if not (folder := cache_dir / local_name(text)).joinpath("config.json").is_file():
        raise UserError(f"model {text} is not in {cache_dir}: fetch it with `python -m jobs.download {text}`")
    check_origin(folder, text)
    return _describe(folder)


def local_name(name: str) -> str:
    """The name a model is kept and served by: the last part of its hub id or folder."""
    return name.rstrip("/").rpartition("/")[2]


def looks_like_a_path(text: str) -> bool:
    """Whether ``text`` can only mean a folder, neither a name nor a hub id."""
    return text.startswith(("/", ".", "~")) or text.count("/") > 1


def read_record(folder: Path) -> ModelRecord | None:
    """What ``folder/onggi.json`` says; None when there is none.

    Raises:
        UserError: it is there and not readable as a record.
    """
    try:
        return ModelRecord.model_validate_json((folder / RECORD).read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise UserError(
            f"{folder / RECORD} is damaged ({error.errors()[0]['msg']}): remove {folder}"
        ) from None


def cached(cache_dir: Path) -> list[tuple[Path, ModelRecord]]:
    """Every model that ``cache_dir`` holds, by name."""
    folders = sorted(path.parent for path in cache_dir.glob(f"[!.]*/{RECORD}"))
    return [(folder, record) for folder in folders if (record := read_record(folder))]


def hash_files(folder: Path) -> dict[str, str]:
    """sha256 of every file below ``folder`` but the record, by relative name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != RECORD)
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}


def file_sha256(path: Path) -> str:
    """sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(sha256: dict[str, str]) -> str:
    """One digest over many files: ``sha256:`` of their ``<sha256>  <name>`` lines, sorted by name."""
    lines = "".join(f"{sha256[name]}  {name}\n" for name in sorted(sha256))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def differences(folder: Path, record: ModelRecord) -> list[str]:
    """What is missing from or changed in ``folder`` since ``record`` was written, one phrase a file."""
    now = hash_files(folder)
    changed = [
        f"{name} is missing" if name not in now else f"{name} has changed"
        for name, sha256 in record.sha256.items()
        if now.get(name) != sha256
    ]
    return changed + [f"{name} was not there" for name in now if name not in record.sha256]


def check_origin(folder: Path, asked: str) -> None:
    """Raise ``UserError`` when ``asked`` is a hub id and ``folder`` holds another organisation's model."""
    record = read_record(folder)
    if record and "/" in asked and record.source.startswith("hub:") and record.source != f"hub:{asked}":
        origin = record.source.removeprefix("hub:")
        raise UserError(f"{folder} holds {origin}, not {asked}: remove it, or set another MODEL_CACHE_DIR")


def _describe(folder: Path) -> BaseModel:
    record = read_record(folder)
    if record is None:
        return BaseModel(folder, folder.resolve().name, digest(hash_files(folder)))
    return BaseModel(folder, record.name, record.revision)
