"""Read a file of rows, reporting every line that cannot be used."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.rows.errors import DatasetError, Problem
from common.rows.schema import ChatRow, Kind, Row, parse_row


@dataclass(frozen=True)
class Dataset:
    """The rows of one file, all of one kind; ``digest`` is ``sha256:...`` over the file's bytes."""

    path: Path
    kind: Kind
    rows: list[Row]
    digest: str

    def chat_rows(self) -> list[ChatRow]:
        """The rows, which must be chat rows.

        Raises:
            UserError: they are of another kind.
        """
        if self.kind != "chat":
            raise UserError(f"{self.path} holds {self.kind} rows: chat rows are needed here")
        return [row for row in self.rows if isinstance(row, ChatRow)]


def read_rows(path: Path) -> Dataset:
    """Read the whole file at ``path``.

    Raises:
        DatasetError: lines that cannot be used, with their reasons; nothing is dropped silently.
        UserError: there is no such file.
    """
    digest = hashlib.sha256()
    results = list(_parse(path, digest))
    problems = [result for result in results if isinstance(result, Problem)]
    rows = [result for result in results if not isinstance(result, Problem)]
    if problems:
        raise DatasetError(str(path), problems)
    return Dataset(path, rows[0].kind, rows, f"sha256:{digest.hexdigest()}")


def validate(path: Path) -> list[Problem]:
    """Every problem of the file at ``path``, without keeping its rows in memory; empty when it can be used.

    Raises:
        UserError: there is no such file.
    """
    return [result for result in _parse(path, hashlib.sha256()) if isinstance(result, Problem)]


def parse_line(line: int, raw: bytes) -> Row:
    """The row in the bytes of one line.

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
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise ValueError("is not a row: it is nested too deeply") from None
    if "\\ud" in text.lower() and not _is_unicode(value):
        raise ValueError("has half of a surrogate pair (\\ud800 to \\udfff alone): write the whole character")
    return parse_row(line, value)


def _is_unicode(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _parse(path: Path, digest: "hashlib._Hash") -> Iterator[Row | Problem]:
    first: Row | None = None
    empty = True
    for line, raw in _lines(path, digest):
        empty = False
        try:
            row = parse_line(line, raw)
        except ValueError as error:
            yield Problem(line, str(error))
            continue
        first = first or row
        if row.kind != first.kind:
            yield Problem(
                line, f"is a {row.kind} row, but line {first.line} is a {first.kind} row: one kind a file"
            )
        else:
            yield row
    if empty:
        yield Problem(1, "the file is empty: it needs at least one row")


def _lines(path: Path, digest: "hashlib._Hash") -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers from 1; blank lines at the very end are a matter of editors, and left out."""
    try:
        with path.open("rb") as file:
            blank: list[tuple[int, bytes]] = []
            for number, raw in enumerate(file, start=1):
                digest.update(raw)
                if not raw.strip():
                    blank.append((number, raw))
                    continue
                yield from blank
                blank = []
                yield number, raw
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
