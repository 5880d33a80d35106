"""Migrated databases for tests, made once a session for each kind and copied for each test."""

import asyncio
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from services.database.upgrade import upgrade
from tests import postgres

Fresh = Callable[[], str]
"""Makes a migrated, empty database of its own; returns its URL."""


def sqlite(folder: Path) -> Fresh:
    """Fresh SQLite files in ``folder``."""
    template = folder / "template.db"
    asyncio.run(upgrade(f"sqlite+aiosqlite:///{template}"))

    def fresh() -> str:
        path = folder / f"{uuid.uuid4().hex}.db"
        shutil.copy(template, path)
        return f"sqlite+aiosqlite:///{path}"

    return fresh


def postgresql(server_url: str) -> Fresh:
    """Fresh databases on the server at ``server_url``."""
    template = postgres.fresh_database(server_url)
    asyncio.run(upgrade(template))
    name = template.rpartition("/")[2]
    return lambda: postgres.fresh_database(server_url, name)
