"""A dataset's folder: its files' names, their bytes, and how all of them appear at once or not at all."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.rows import Row
from common.storage import fsync_folder

TRAIN = "train.jsonl"
HELD_OUT = "heldout.jsonl"
MANIFEST = "manifest.json"


def to_json_lines(rows: Iterable[Row]) -> bytes:
    """The rows as a file's bytes, in their order."""
    return b"".join(json.dumps(row.as_json(), ensure_ascii=False).encode() + b"\n" for row in rows)


def to_json(manifest: Mapping[str, Any]) -> bytes:
    """The manifest as a file's bytes, for people to read."""
    return (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode()


def digest(content: bytes) -> str:
    """``sha256:`` and the hash of a file's bytes, in hex."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def write_folder(output: Path, files: Mapping[str, bytes], *, replace: bool) -> bool:
    """Make ``output`` hold exactly ``files``, at once; False when it did already.

    Raises:
        UserError: it holds another dataset and ``replace`` is not set, or holds anything else, or the disk
            refuses.
    """
    output = output.absolute()
    try:
        if _holds(output, files, replace=replace):
            return False
        output.parent.mkdir(parents=True, exist_ok=True)
        _write_and_swap(output, files)
    except OSError as error:
        raise UserError(f"{output} cannot be written: {error.strerror}") from None
    return True


def _holds(output: Path, files: Mapping[str, bytes], *, replace: bool) -> bool:
    if not output.exists():
        return False
    if not output.is_dir():
        raise UserError(f"{output} is a file: give --output a folder")
    names = {path.name for path in output.iterdir()}
    if names - files.keys():
        other = sorted(names - files.keys())[0]
        raise UserError(f"{output} holds other files ({other}): give --output a folder of its own")
    if all(name in names and (output / name).read_bytes() == content for name, content in files.items()):
        return True
    if names and not replace:
        raise UserError(f"{output} holds another dataset: give another --output, or --force to replace it")
    return False


def _write_and_swap(output: Path, files: Mapping[str, bytes]) -> None:
    temporary = output.with_name(f".{output.name}.{os.getpid()}.new")
    try:
        temporary.mkdir()
        for name, content in files.items():
            _write_durably(temporary / name, content)
        _swap(temporary, output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _swap(new: Path, output: Path) -> None:
    old = output.with_name(f".{output.name}.{os.getpid()}.old")
    if output.exists():
        output.rename(old)
    try:
        new.rename(output)
    except OSError:
        if old.exists():
            old.rename(output)
        raise
    shutil.rmtree(old, ignore_errors=True)
    fsync_folder(output.parent)


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
