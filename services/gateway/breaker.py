"""When to stop asking a replica that fails, and when to try it again."""

FAILURES = 3  # one after another
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 8.0


class Breaker:
    """Opens after some failures in a row, for a pause that doubles with every time; times are monotonic.

    After the pause a probe decides: once it succeeds, requests are let through again, and the first of them
    that fails opens it anew.
    """

    __slots__ = ("_failures", "_pause", "is_open", "until")

    def __init__(self) -> None:
        self.is_open = False
        self.until = 0.0
        self._failures = 0
        self._pause = FIRST_PAUSE_SECONDS

    def failed(self, moment: float, *, at_once: bool = False) -> bool:
        """Count a failure; True when it opens now. ``at_once``: this one is reason enough."""
        self._failures += 1
        if self._failures < FAILURES and not at_once:
            return False
        opens = not self.is_open
        if opens or moment >= self.until:
            self.until = moment + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        self.is_open = True
        return opens

    def probed(self) -> bool:
        """A probe succeeded: let requests through; True when it was open."""
        was_open, self.is_open = self.is_open, False
        self._failures = FAILURES - 1 if was_open else self._failures
        return was_open

    def succeeded(self) -> bool:
        """A request succeeded; True when it was open."""
        if not self._failures:
            return False
        was_open, self.is_open = self.is_open, False
        self._failures = 0
        self._pause = FIRST_PAUSE_SECONDS
        return was_open
