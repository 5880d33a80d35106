"""Settings of the migration command."""

from common.settings import Settings


class DatabaseSettings(Settings):
    """``DATABASE_URL``, how long to wait for it, and the object store, which has tombstones too."""

    database_url: str = "sqlite+aiosqlite:///./onggi.db"
    database_wait_seconds: float = 60.0
    store_url: str = ""
