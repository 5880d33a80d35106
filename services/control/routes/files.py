"""/v1/files, as OpenAI has it."""

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from starlette.datastructures import UploadFile

from common.openai_errors import invalid
from services.control import uploads
from services.control.dependencies import CallerDep, ControlDep, IdempotencyKey, PersonOrJobDep, ReadSession
from services.control.shapes.base import Deleted, Page, page
from services.control.shapes.files import FilePublic
from services.database.queries import files

router = APIRouter(prefix="/v1/files", tags=["files"])

# Read by hand and not as parameters, which the framework would take in before it asks who is calling.
_FORM = {
    "type": "object",
    "required": ["file", "purpose"],
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "purpose": {"type": "string", "enum": list(uploads.PURPOSES)},
    },
}
_BODY = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}}


@router.post("", response_model=FilePublic, openapi_extra=_BODY)
async def upload_file(
    request: Request, control: ControlDep, caller: PersonOrJobDep, key: IdempotencyKey
) -> Any:
    """Upload a JSON Lines file for fine-tuning, up to 512 MiB."""
    async with request.form(max_files=1, max_fields=10) as form:
        file, purpose = form.get("file"), form.get("purpose")
        if not isinstance(file, UploadFile):
            raise invalid("file is missing: send it as multipart/form-data.", "file")
        if not isinstance(purpose, str):
            raise invalid("purpose is missing: send purpose=fine-tune.", "purpose")
        return await uploads.save(control, caller, file, purpose, key)


@router.get("", response_model=Page[FilePublic])
async def list_files(
    session: ReadSession,
    caller: CallerDep,
    purpose: str | None = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Literal["asc", "desc"] = "desc",
) -> Any:
    """Your files, an owner's: everybody's."""
    person_id = None if caller.is_owner else caller.person_id
    newest_first = order == "desc"
    rows = await files.page(
        session, person_id, purpose=purpose, after=after, limit=limit + 1, newest_first=newest_first
    )
    return page(list(rows), limit)


@router.get("/{file_id}", response_model=FilePublic)
async def get_file(file_id: str, control: ControlDep, caller: CallerDep) -> Any:
    """One file."""
    return await uploads.find(control, caller, file_id)


@router.get("/{file_id}/content", response_class=StreamingResponse)
async def get_file_content(file_id: str, control: ControlDep, caller: CallerDep) -> StreamingResponse:
    """A file's bytes."""
    file = await uploads.find(control, caller, file_id)
    content = uploads.pieces(await asyncio.to_thread(control.store), file)
    await asyncio.to_thread(next, content)  # opens it, while an error can still be answered
    headers = {"Content-Length": str(file.bytes)}
    return StreamingResponse(content, media_type="application/octet-stream", headers=headers)


@router.delete("/{file_id}", response_model=Deleted)
async def delete_file(file_id: str, control: ControlDep, caller: CallerDep) -> Any:
    """Delete a file. Fine-tuning jobs that have been made of it go on."""
    file = await uploads.find(control, caller, file_id)
    await uploads.remove(control, file)
    return Deleted(id=file.id, object="file")
