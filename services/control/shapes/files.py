"""Files in OpenAI's form: https://platform.openai.com/docs/api-reference/files"""

from typing import Literal

from services.control.shapes.base import Seconds, Shown


class FilePublic(Shown):
    """OpenAI's ``file``; its sha256 is ours."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: Seconds
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    sha256: str
