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


def describe(error: Exception) -> str:
    """``error`` for a log: by kind and SQLSTATE, since its text may quote the row, and so people's words."""
    if not isinstance(error, SQLAlchemyError | PostgresError):
        return (
            f"{type(error).__name__}: {error.strerror}"
            if isinstance(error, OSError)
            else type(error).__name__
        )
    driver = getattr(error, "orig", None) or error
    code = getattr(driver, "sqlstate", None) or "no code"
    return f"{type(error).__name__}: {type(driver.__cause__ or driver).__name__} ({code})"


def describe_connection(error: Exception) -> str:
    """What went wrong with a connection, for a log: the kind of ``error`` and its words."""
    return f"{type(error).__name__}: {error}"


@contextmanager
def needs_database() -> Iterator[None]:
    """Answer 503 with Retry-After when the database fails inside this block."""
    try:
        yield
    except DATABASE_ERRORS as error:
        logging.get("system").warning("database away", reason=describe(error))
        raise unavailable("The database is away: try again in a moment.") from None
