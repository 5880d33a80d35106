"""Read a file of rows, reporting every line that cannot be used."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from common.rows.errors import DatasetError, Problem
from common.rows.jsonl import decode, lines
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
    results = list(one_kind(_parse(path, digest)))
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
    return [result for result in one_kind(_parse(path, hashlib.sha256())) if isinstance(result, Problem)]


def parse_line(line: int, raw: bytes) -> Row:
    """The row in the bytes of one line.

    Raises:
        ValueError: the reason why there is none.
    """
    return parse_row(line, decode(line, raw))


def one_kind(results: Iterable[Row | Problem]) -> Iterator[Row | Problem]:
    """The same, with a problem in the place of each row of another kind than the first."""
    first: Row | None = None
    for result in results:
        if isinstance(result, Problem):
            yield result
            continue
        first = first or result
        if result.kind == first.kind:
            yield result
        else:
            told = f"is a {result.kind} row, but line {first.line} is a {first.kind} row: one kind a file"
            yield Problem(result.line, told)


def _parse(path: Path, digest: "hashlib._Hash") -> Iterator[Row | Problem]:
    line = 0
    for line, raw in lines(path, digest):
        try:
            yield parse_line(line, raw)
        except ValueError as error:
            yield Problem(line, str(error))
    if not line:
        yield Problem(1, "the file is empty: it needs at least one row")
