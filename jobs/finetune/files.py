"""Writing files that are whole or not there, also after a power cut."""

import os
from pathlib import Path


def write_durably(path: Path, data: bytes) -> None:
    """Write a new file and wait until the disk has it."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace_durably(path: Path, data: bytes) -> None:
    """Make ``path`` hold ``data``; a reader sees the old bytes or the new, never half."""
    temporary = path.with_name(f".{path.name}.new")
    write_durably(temporary, data)
    temporary.replace(path)
