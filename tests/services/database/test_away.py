"""Which errors mean that the database is away, and which are mistakes of ours that must not be hidden."""

import socket
from errno import EACCES, EHOSTUNREACH, ENOSPC

import asyncpg
import pytest
from sqlalchemy import exc

from services.database.away import is_away


def by_driver(error: Exception, *, lost: bool = False) -> exc.DBAPIError:
    return exc.DBAPIError("SELECT 1", None, error, connection_invalidated=lost)


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (ConnectionRefusedError(), True),
        (TimeoutError(), True),
        (OSError(EHOSTUNREACH, "No route to host"), True),
        (OSError("Multiple exceptions: one for each address"), True),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), True),
        (exc.TimeoutError(), True),
        (by_driver(Exception(), lost=True), True),
        (by_driver(asyncpg.CannotConnectNowError()), True),
        (by_driver(asyncpg.AdminShutdownError()), True),
        (by_driver(asyncpg.TooManyConnectionsError()), True),
        (by_driver(asyncpg.UndefinedTableError()), False),
        (by_driver(asyncpg.UniqueViolationError()), False),
        (exc.InvalidRequestError(), False),
        (OSError(ENOSPC, "No space left on device"), False),
        (PermissionError(EACCES, "Permission denied"), False),
        (ValueError(), False),
    ],
)
def test_only_what_another_try_may_mend_is_away(error: Exception, away: bool) -> None:
    assert is_away(error) is away
