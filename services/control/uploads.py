"""Uploaded files: their bytes go to the object store in pieces, their rows to the database."""

import asyncio
import contextlib
import hashlib
from collections.abc import Iterator
from typing import IO

from starlette.datastructures import UploadFile

from common.openai_errors import OpenAIError, invalid, not_found, unavailable
from common.storage import StorageUnavailable, Store
from services.control.context import Control
from services.control.datasets import file_key
from services.database.credentials import Caller
from services.database.queries import files
from services.database.tables import File, keyed_id, new_id

MAX_BYTES = 512 << 20
PURPOSES = ("fine-tune",)
_PIECE = 1 << 20


async def save(
    control: Control, caller: Caller, upload: UploadFile, purpose: str, key: str | None = None
) -> File:
    """Store an upload; the row is written when all bytes are in the store.

    ``key`` is the caller's for this file: uploaded again with it, the first one is the answer.

    Raises:
        OpenAIError: 400, a purpose that we have no use for or an empty file; 409, the key's file was deleted;
            413; 503, the store is away.
    """
    if purpose not in PURPOSES:
        raise invalid(f"purpose {purpose!r} is not supported: use fine-tune.", "purpose")
    file_id = keyed_id("file-", caller.person_id, key) if key else new_id("file-")
    if key and (there := await _there(control, file_id)):
        return there
    size, sha256 = await asyncio.to_thread(_copy, control, upload.file, file_key(file_id))
    file = File(
        id=file_id,
        person_id=caller.person_id,
        filename=(upload.filename or "upload.jsonl")[-400:],
        purpose=purpose,
        bytes=size,
        sha256=sha256,
    )
    async with control.database.session() as session:
        return await session.merge(file)  # of two uploads with one key, the later finds the earlier's row


async def _there(control: Control, file_id: str) -> File | None:
    async with control.database.read() as session:
        file = await session.get(File, file_id)
    if file is not None and file.deleted_at is not None:
        raise OpenAIError(409, f"The file of this Idempotency-Key, {file_id}, was deleted: use another key.")
    return file


async def keep(control: Control, file: File, data: bytes) -> None:
    """Store ``data`` as ``file``, a row that is not yet added and gets its size and digest here."""
    await asyncio.to_thread(control.store().put_bytes, data, file_key(file.id))
    file.bytes, file.sha256 = len(data), hashlib.sha256(data).hexdigest()
    async with control.database.session() as session:
        session.add(file)


async def find(control: Control, caller: Caller, file_id: str) -> File:
    """A file that the caller may see: their own, or for an owner anybody's.

    Raises:
        OpenAIError: 404.
    """
    async with control.database.read() as session:
        file = await files.get(session, file_id, None if caller.is_owner else caller.person_id)
    if file is None:
        raise not_found(f"No such File object: {file_id}", "id")
    return file


async def remove(control: Control, file: File) -> None:
    """Delete a file: first its row, so that nobody is shown what has no bytes, then the bytes."""
    async with control.database.session() as session:
        await files.delete(session, file.id)
    with _away():
        await asyncio.to_thread(control.store().delete, file_key(file.id))


def pieces(store: Store, file: File) -> Iterator[bytes]:
    """The file's bytes, a megabyte at a time. Blocks.

    Raises:
        OpenAIError: 404, the store has lost them; 503, the store is away.
    """
    with _away(), store.open(file_key(file.id), "rb") as source:
        yield b""  # opened: what can go wrong before the first byte has gone wrong by now
        while piece := source.read(_PIECE):
            yield piece


def _copy(control: Control, source: IO[bytes], key: str) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with _away(), control.store().open(key, "wb") as target:
        while piece := source.read(_PIECE):
            digest.update(piece)
            size += target.write(piece)
            if size > MAX_BYTES:
                raise OpenAIError(413, f"A file may have {MAX_BYTES >> 20} MiB: split it.", param="file")
        if size == 0:
            raise invalid("The file is empty: it needs at least one row.", "file")
    return size, digest.hexdigest()


@contextlib.contextmanager
def _away() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise not_found(str(error)) from None
    except StorageUnavailable as error:
        raise unavailable(str(error)) from None
