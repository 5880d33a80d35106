"""What a database that is away looks like from here."""

from collections.abc import Iterator
from contextlib import contextmanager

from asyncpg import InterfaceError, PostgresError
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError

from common import logging
from common.openai_errors import unavailable

# The driver's own errors come unwrapped while a connection is being made.
DATABASE_ERRORS = (SQLAlchemyError, PostgresError, InterfaceError, OSError, TimeoutError)


def refuses_row(error: Exception) -> bool:
    """Whether ``error`` is about what was to be written (SQLSTATE 22, 23), so that no retry helps."""
    if isinstance(error, (IntegrityError, DataError)) or not isinstance(error, DATABASE_ERRORS):
        return True
    code = getattr(error.orig, "sqlstate", None) if isinstance(error, DBAPIError) else None
    return str(code or "")[:2] in ("22", "23")


@contextmanager
def needs_database() -> Iterator[None]:
    """Answer 503 with Retry-After when the database fails inside this block."""
    try:
        yield
    except DATABASE_ERRORS as error:
        logging.get("system").warning("database away", reason=repr(error))
        raise unavailable("The database is away: try again in a moment.") from None
