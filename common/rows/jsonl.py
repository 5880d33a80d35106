"""JSON Lines, one value a line, with every mistake named by line."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.errors import UserError


def lines(path: Path, digest: "hashlib._Hash") -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers from 1, their bytes added to ``digest``.

    Blank lines at the very end are a matter of editors, and left out.

    Raises:
        UserError: the file cannot be read.
    """
    blank: list[tuple[int, bytes]] = []
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                digest.update(raw)
                blank.append((number, raw))
                if raw.strip():
                    yield from blank
                    blank = []
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def decode(line: int, raw: bytes) -> Any:
    """The JSON value in the bytes of one line; the first may begin with a byte order mark.

    Raises:
        ValueError: the reason why there is none.
    """
    try:
        text = raw.decode("utf-8-sig" if line == 1 else "utf-8").strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 (byte {error.start + 1} is 0x{raw[error.start]:02x})") from None
    if not text:
        raise ValueError("is empty: remove it")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise ValueError("is not a row: it is nested too deeply") from None
