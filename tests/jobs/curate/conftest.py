"""The real control of the retrain's tests, for the command that reads from it."""

from tests.jobs.retrain.conftest import control, database_url, fresh_sqlite, house, logs, root, settings

__all__ = ["control", "database_url", "fresh_sqlite", "house", "logs", "root", "settings"]
