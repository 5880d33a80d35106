"""Settings of the migration command."""

from common.settings import Settings


class DatabaseSettings(Settings):
    """``DATABASE_URL``, and how long to wait for it."""

    database_url: str = "sqlite+aiosqlite:///./onggi.db"
    database_wait_seconds: float = 60.0
