"""Errors that a user can act on, and the exit codes that a Kubernetes Job's podFailurePolicy knows."""

import sys
from collections.abc import Callable
from typing import NoReturn

EXIT_AWAY = 1
EXIT_CONFIGURATION = 2
EXIT_TOO_BIG = 3
NOT_RETRIED = frozenset({EXIT_CONFIGURATION, EXIT_TOO_BIG})


class UserError(Exception):
    """Configuration or data that the user must mend: one sentence with the place and the way out.

    A retry cannot help, but for what is away: the process exits with 2 and no traceback.
    """

    exit_code = EXIT_CONFIGURATION


class TooBigError(UserError):
    """The work does not fit the card it was given; the message holds the plan that would fit."""

    exit_code = EXIT_TOO_BIG


class AwayError(UserError):
    """Something that is needed does not answer now; the sentence says what. Another run may find it there."""

    exit_code = EXIT_AWAY


def is_passing(status: int) -> bool:
    """Whether an answer of HTTP ``status`` is trouble that may pass: the server's own, or too many."""
    return status >= 500 or status == 429


def with_exit_code(code: int, sentence: str) -> UserError:
    """The error that ends a process with ``code``."""
    kinds = {kind.exit_code: kind for kind in (AwayError, TooBigError)}
    return kinds.get(code, UserError)(sentence)


def run(main: Callable[[], None]) -> NoReturn:
    """Run ``main`` and exit: 0 when it returns, a ``UserError``'s own code with its sentence on stderr.

    Any other exception keeps its traceback and Python's exit code 1, which the Job's policy retries.
    """
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)
