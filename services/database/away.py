"""What a database that is away looks like, and what callers are told then."""

from collections.abc import Iterator
from contextlib import contextmanager
from errno import EHOSTUNREACH, ENETUNREACH
from socket import gaierror

from asyncpg import InterfaceError, PostgresError
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from common import logging
from common.openai_errors import OpenAIError, unavailable

# The driver's own errors come unwrapped while a connection is being made.
DATABASE_ERRORS = (SQLAlchemyError, PostgresError, InterfaceError, OSError, TimeoutError)
_AWAY = ("08", "53", "57")


def refuses_row(error: Exception) -> bool:
    """Whether ``error`` is about what was to be written (SQLSTATE 22, 23), so that no retry helps."""
    if isinstance(error, (IntegrityError, DataError)) or not isinstance(error, DATABASE_ERRORS):
        return True
    code = getattr(error.orig, "sqlstate", None) if isinstance(error, DBAPIError) else None
    return str(code or "")[:2] in ("22", "23")


def is_away(error: Exception) -> bool:
    """Whether ``error`` can only mean that the database is lost or starting, not a mistake in a statement.

    SQLSTATE 08 is a connection's trouble, 53 too little of something, 57 its being stopped or started.
    """
    if isinstance(error, PostgresError):
        return str(error.sqlstate)[:2] in _AWAY
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or str(getattr(error.orig, "sqlstate", None))[:2] in _AWAY
    if type(error) is OSError:  # no route; without a number: several addresses, and none of them answers
        return error.errno in (None, EHOSTUNREACH, ENETUNREACH)
    return isinstance(error, (ConnectionError, TimeoutError, gaierror, PoolTimeoutError, InterfaceError))


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


@contextmanager
def needs_database() -> Iterator[None]:
    """Answer 503 with Retry-After when the database fails inside this block."""
    try:
        yield
    except DATABASE_ERRORS as error:
        raise database_away(error) from None


def database_away(error: Exception) -> OpenAIError:
    """The 503 for ``error``, which is one of DATABASE_ERRORS and is logged."""
    logging.get("system").warning("database away", reason=describe(error))
    return unavailable("The database is away: try again in a moment.")
