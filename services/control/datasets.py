"""From uploaded files to a fine-tune's two: the rows it learns and the rows it is judged on."""

import tempfile
from codecs import BOM_UTF8
from pathlib import Path

from common.openai_errors import OpenAIError, invalid, unavailable
from common.rows import DatasetError, held_out, parse_line, validate
from common.storage import StorageUnavailable, Store
from services.control.job_folder import HELD_OUT, TRAIN
from services.database.tables import File


def file_key(file_id: str) -> str:
    """Where an uploaded file's bytes lie in the store."""
    return f"files/{file_id}"


def file_at(address: str) -> str:
    """The id of the uploaded file at ``address``, as a Job of kubectl's names it; an id is its own.

    Whatever is before it: ``s3://onggi/files/<id>`` and ``$(STORE_URL)/files/<id>`` are one file, and no two
    files have one id.
    """
    return address.rstrip("/").rpartition("/")[2]


def prepare(store: Store, training: File, validation: File | None, folder: Path) -> int:
    """Fill ``folder`` with train.jsonl and held_out.jsonl; returns the number of rows held out. Blocks.

    With a validation file every training row is learned and every row of that file is held out. Without one,
    the hash of its conversation's key decides on which side a row is, for ever.

    Raises:
        OpenAIError: 400 with the lines that cannot be used, 503 when the store is away.
    """
    train, held = folder / TRAIN, folder / HELD_OUT
    if validation is not None:
        _fetch(store, training, train, "training_file")
        _fetch(store, validation, held, "validation_file")
        return _count(held)
    with tempfile.NamedTemporaryFile(dir=folder) as whole:
        _fetch(store, training, Path(whole.name), "training_file")
        learned, kept = _split(Path(whole.name), train, held)
    if learned == 0:
        message = (
            f"{training.id}: all of its {kept} rows are held out by hash: add rows, or a validation_file"
        )
        raise invalid(message, "training_file")
    return kept


def _fetch(store: Store, file: File, local: Path, param: str) -> None:
    try:
        store.get_file(file_key(file.id), local)
    except FileNotFoundError:
        raise invalid(f"The bytes of {file.id} are gone: upload the file again.", param) from None
    except StorageUnavailable as error:
        raise unavailable(str(error)) from None
    _check(local, file, param)


def _check(local: Path, file: File, param: str) -> None:
    if problems := validate(local):
        error = DatasetError(f"{file.id} ({file.filename})", problems)
        raise OpenAIError(400, str(error), param=param, code="invalid_training_file")
    with local.open("rb") as lines:
        kind = parse_line(1, next(lines)).kind
    if kind != "chat":
        raise invalid(f"{file.id} holds {kind} rows: method supervised learns from chat rows", param)


def _count(path: Path) -> int:
    with path.open("rb") as lines:
        return sum(1 for line in lines if line.strip())


def _split(whole: Path, train: Path, held: Path) -> tuple[int, int]:
    """Copy each line of ``whole`` to one side as it is; the number of rows on each."""
    counts = [0, 0]
    with whole.open("rb") as lines, train.open("wb") as learned, held.open("wb") as kept:
        for number, line in enumerate(lines, start=1):
            line = line.removeprefix(BOM_UTF8)  # it may not be the first line of its side
            if line.strip():
                side = held_out(parse_line(number, line).key)
                (kept if side else learned).write(line.rstrip(b"\r\n") + b"\n")
                counts[side] += 1
    return counts[0], counts[1]
