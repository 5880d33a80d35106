"""Read the forms in which conversations are passed around, and turn them into dataset rows.

=========  ==========================================================================================
chat       our rows, OpenAI's form: {"messages": [...]}; preference and label rows are kept as they are
no_robots  {"prompt", "prompt_id", "messages", "category"} (HuggingFaceH4/no_robots)
sharegpt   {"conversations": [{"from": "human", "value": "..."}], "system"?, "id"?}
alpaca     {"instruction", "input"?, "output", "system"?, "id"?, "text"?} (tatsu-lab/stanford_alpaca)
=========  ==========================================================================================

Each may be JSON Lines, one JSON array, or Parquet.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from common.errors import UserError
from common.rows import DatasetError, Problem, Row, one_kind, parse_row
from common.rows.jsonl import decode, lines

Form = Literal["chat", "no_robots", "sharegpt", "alpaca"]
Record = tuple[int, Any]

_SHAREGPT_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
}


@dataclass(frozen=True)
class Source:
    """A file of conversations as rows, with the form it had and the digest of its bytes."""

    form: Form
    rows: list[Row]
    digest: str


def read_source(path: Path, form: Literal["auto", Form] = "auto") -> Source:
    """Read ``path`` in ``form``, which ``auto`` tells from the keys of its first record.

    Raises:
        DatasetError: records that cannot be used, each with its line (or its row, in an array or Parquet).
        UserError: the file cannot be read at all, or its form cannot be told.
    """
    digest = hashlib.sha256()
    unit, records = _records(path, digest)
    found = list(records)
    if not found:
        raise UserError(f"{path} is empty: it needs at least one conversation")
    known: Form = _detect(path, found) if form == "auto" else form
    results = list(one_kind(_convert(record, known) for record in found))
    problems = [result for result in results if isinstance(result, Problem)]
    if problems:
        raise DatasetError(f"{path} ({known} form)", problems, unit)
    rows = [result for result in results if not isinstance(result, Problem)]
    return Source(known, rows, f"sha256:{digest.hexdigest()}")


def _records(path: Path, digest: "hashlib._Hash") -> tuple[str, Iterator[Record | Problem]]:
    try:
        with path.open("rb") as file:
            head = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    if head.startswith(b"PAR1"):
        return "row", _parquet(path, digest)
    if head.startswith(b"["):
        return "row", _array(path, digest)
    return "line", _json_lines(path, digest)


def _json_lines(path: Path, digest: "hashlib._Hash") -> Iterator[Record | Problem]:
    for line, raw in lines(path, digest):
        try:
            yield line, decode(line, raw)
        except ValueError as error:
            yield Problem(line, str(error))


def _array(path: Path, digest: "hashlib._Hash") -> Iterator[Record]:
    raw = path.read_bytes()
    digest.update(raw)
    try:
        values = json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path} line {line} is not UTF-8: save it as UTF-8") from None
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path} line {error.lineno} is not JSON: {error.msg} at column {error.colno}"
        ) from None
    except RecursionError:
        raise UserError(f"{path} is nested too deeply to be conversations") from None
    yield from enumerate(values, start=1)


def _parquet(path: Path, digest: "hashlib._Hash") -> Iterator[Record]:
    import pyarrow
    from pyarrow import parquet

    digest.update(path.read_bytes())
    try:
        values = parquet.read_table(path).to_pylist()
    except pyarrow.ArrowException as error:
        raise UserError(f"{path} is not Parquet that can be read: {error}") from None
    # A table has every column in every row; what a record does not say is null there.
    yield from enumerate((_without_nulls(value) for value in values), start=1)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _detect(path: Path, records: list[Record | Problem]) -> Form:
    first = next((record[1] for record in records if not isinstance(record, Problem)), None)
    keys = list(first) if isinstance(first, dict) else []
    if "conversations" in keys:
        return "sharegpt"
    if "instruction" in keys:
        return "alpaca"
    if "messages" in keys and "prompt" in keys:
        return "no_robots"
    if "messages" in keys or "input" in keys or first is None:
        return "chat"
    raise UserError(
        f"{path}: its form cannot be told from the keys of its first record ({', '.join(keys) or 'none'}): "
        "give --form chat, no_robots, sharegpt or alpaca"
    )


def _convert(record: Record | Problem, form: Form) -> Row | Problem:
    if isinstance(record, Problem):
        return record
    number, value = record
    try:
        if not isinstance(value, dict):
            raise ValueError(f"is a JSON {type(value).__name__}, not an object")
        return parse_row(number, _CONVERT[form](value))
    except ValueError as error:
        return Problem(number, str(error))


def _no_robots(value: Mapping[str, Any]) -> dict[str, Any]:
    _require_known(value, {"prompt", "prompt_id", "messages", "category"})
    return {"messages": value.get("messages"), **_source_id(value, "prompt_id")}


def _sharegpt(value: Mapping[str, Any]) -> dict[str, Any]:
    _require_known(value, {"conversations", "system", "id"})
    turns = value.get("conversations")
    if not isinstance(turns, list):
        raise ValueError("conversations must be a list of turns")
    messages = [_sharegpt_turn(index, turn) for index, turn in enumerate(turns)]
    return {"messages": _system(value) + messages, **_source_id(value, "id")}


def _sharegpt_turn(index: int, turn: Any) -> dict[str, Any]:
    if not isinstance(turn, dict) or turn.keys() != {"from", "value"}:
        raise ValueError(f"conversations[{index}] must have the keys from and value, and no other")
    role = _SHAREGPT_ROLES.get(turn["from"]) if isinstance(turn["from"], str) else None
    if role is None:
        raise ValueError(
            f"conversations[{index}].from = {turn['from']!r}: it must be one of {', '.join(_SHAREGPT_ROLES)}"
        )
    return {"role": role, "content": turn["value"]}


def _alpaca(value: Mapping[str, Any]) -> dict[str, Any]:
    # ``text`` is the same record as one rendered prompt: there is nothing else in it.
    _require_known(value, {"instruction", "input", "output", "system", "id", "text"})
    for key in ("instruction", "output"):
        if not isinstance(value.get(key), str) or not value[key].strip():
            raise ValueError(f"{key} must be a text that is not empty")
    extra = value.get("input") or ""
    if not isinstance(extra, str):
        raise ValueError("input must be a text")
    question = f"{value['instruction']}\n\n{extra}" if extra.strip() else value["instruction"]
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": value["output"]}]
    return {"messages": _system(value) + messages, **_source_id(value, "id")}


def _system(value: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "system", "content": value["system"]}] if value.get("system") else []


def _source_id(value: Mapping[str, Any], key: str) -> dict[str, str]:
    return {"source_id": str(value[key])} if value.get(key) is not None else {}


def _require_known(value: Mapping[str, Any], known: Set[str]) -> None:
    unknown = sorted(value.keys() - known)
    if unknown:
        raise ValueError(
            f"{', '.join(unknown)}: not a key of this form, which has {', '.join(sorted(known))}"
        )


_CONVERT: dict[Form, Callable[[Mapping[str, Any]], Any]] = {
    "chat": dict,
    "no_robots": _no_robots,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
}
