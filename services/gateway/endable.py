"""Blocks of code under way that can all be ended from outside."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Endable:
    """The blocks under way; its length is how many there are."""

    def __init__(self) -> None:
        self._open: set[asyncio.Timeout] = set()

    def __len__(self) -> int:
        return len(self._open)

    @asynccontextmanager
    async def block(self) -> AsyncIterator[asyncio.Timeout]:
        """A block that may be ended: it then raises TimeoutError, and what it yielded has ``expired``."""
        async with asyncio.timeout(None) as scope:
            self._open.add(scope)
            try:
                yield scope
            finally:
                self._open.discard(scope)

    def end(self) -> None:
        """End every block that is under way."""
        now = asyncio.get_running_loop().time()
        for scope in self._open:
            scope.reschedule(now)
        self._open.clear()
