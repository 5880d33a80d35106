"""Completion rows on their way to the database: one task that writes all that is due in one transaction.

Every response whose end left has exactly one final row: ``finish`` returns once it is committed. An open row
is written with a lease, renewed together with the tokens counted so far; a row whose gateway died is closed
by another when its lease lapses. When the database is away, what is due waits and is tried again.
"""

import asyncio
import time
from collections.abc import Sequence

from common import logging
from services.database.away import describe, refuses_row
from services.database.engine import Database
from services.database.queries import completions
from services.database.tables import CompletionStatus, now
from services.gateway import metrics
from services.gateway.record import LEASE, Record

FINISH_SECONDS = 5.0  # how long a response's end waits for its final row
FLUSH_SECONDS = 2.0
WRITE_SECONDS = 3.0
RETRY_SECONDS = 0.1
GROUP = 500


class NotSavedError(Exception):
    """A final row could not be committed: the response's end must not be sent."""


class Ledger:
    """Writes the records of one gateway process, called ``gateway_id`` in the rows."""

    def __init__(self, database: Database, gateway_id: str) -> None:
        self._database = database
        self._gateway_id = gateway_id
        self._due: dict[Record, None] = {}  # an ordered set
        self._live: set[Record] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._flush_at = 0.0
        self._stopping = False
        self._log = logging.get("system")

    async def start(self) -> None:
        """Start writing."""
        self._task = asyncio.create_task(self._run(), name="ledger")

    async def stop(self) -> None:
        """Stop once every record is closed and written, or after as long as a response's end would wait.

        The requests that hold live records are being cancelled at this moment, which closes them.
        """
        self._stopping = True
        self._wake.set()
        if self._task:
            await asyncio.wait([self._task], timeout=FINISH_SECONDS)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def open(self, record: Record) -> None:
        """Have the open row written; does not wait."""
        record.opened_at = time.perf_counter()
        self._live.add(record)
        self._submit(record)

    def close(self, record: Record) -> None:
        """Have a closed row written; does not wait."""
        self._submit(record)

    async def finish(self, record: Record) -> None:
        """Have a closed row written, and return when it is committed.

        Raises:
            NotSavedError: the database did not take it within five seconds; it becomes interrupted.
        """
        record.saved = asyncio.get_running_loop().create_future()
        self._submit(record)
        try:
            async with asyncio.timeout(FINISH_SECONDS):
                await asyncio.shield(record.saved)
        except TimeoutError:
            # A write under way may still commit "done": then a whole answer lacks its end, never the reverse.
            record.values["status"], record.saved = "interrupted", None
            self._submit(record)
            raise NotSavedError("the database is away") from None

    def _submit(self, record: Record) -> None:
        self._due[record] = None
        self._wake.set()

    async def _run(self) -> None:
        while self._due or self._live or not self._stopping:
            await self._wait()
            group = list(self._due)[:GROUP]
            for record in group:
                del self._due[record]
            try:
                await self._write(group)
                if time.monotonic() >= self._flush_at:
                    await self._flush()
            except Exception as error:
                self._log.warning(
                    "completions not written, trying again", rows=len(group), reason=describe(error)
                )
                self._due = dict.fromkeys([*group, *self._due])
                await asyncio.sleep(RETRY_SECONDS)

    async def _wait(self) -> None:
        """Until something is due, or the next flush."""
        if self._due or (self._stopping and not self._live):
            return
        self._wake.clear()
        try:
            async with asyncio.timeout(max(0.0, self._flush_at - time.monotonic())):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _write(self, group: Sequence[Record]) -> None:
        """Write a group in one transaction; if a row of it is refused, each in its own."""
        if not group:
            return
        try:
            await self._write_together(group)
        except Exception as error:
            if not refuses_row(error):
                raise
            if len(group) > 1:
                for record in group:
                    await self._write([record])
            else:
                self._refused(group[0], error)

    async def _write_together(self, group: Sequence[Record]) -> None:
        writing = _Writing(group)
        async with asyncio.timeout(WRITE_SECONDS), self._database.session() as session:
            writing.sort(await completions.lock(session, [record.id for record in group]))
            await completions.add(session, [record.row() for record in writing.added])
            await completions.close(session, [record.values for record in writing.closed])
        for record, status in writing.done.items():
            self._written(record, status)

    def _written(self, record: Record, status: CompletionStatus) -> None:
        """Note that ``record`` is in the database with ``status``."""
        if not record.committed and record.opened_at is not None:
            metrics.gateway().open_commit.observe(time.perf_counter() - record.opened_at)
        record.committed = True
        if status == "open":
            return
        self._live.discard(record)
        if record.saved and not record.saved.done():
            if status == record.status:
                record.saved.set_result(None)
            else:  # Another gateway closed it while we could not renew its lease.
                record.saved.set_exception(NotSavedError(f"the row was closed as {status}"))

    def _refused(self, record: Record, error: Exception) -> None:
        """The database will never take this row: give up on it alone."""
        self._log.error("completion refused by the database", completion=record.id, reason=describe(error))
        self._live.discard(record)
        if record.saved and not record.saved.done():
            record.saved.set_exception(NotSavedError("the database refused the row"))

    async def _flush(self) -> None:
        """Renew the leases of live rows with their token counts, and close what dead gateways left."""
        tokens = {record.id: record.tokens for record in self._live if record.committed and not record.closed}
        moment = now()
        async with asyncio.timeout(WRITE_SECONDS), self._database.session() as session:
            await completions.renew(session, tokens, moment + LEASE)
            swept = await completions.sweep(session, self._gateway_id, moment)
        self._flush_at = time.monotonic() + FLUSH_SECONDS
        if swept:
            self._log.warning("closed completions of gateways that ended", rows=swept)


class _Writing:
    """What one transaction does: which rows it adds, which it closes, and what each then is."""

    def __init__(self, group: Sequence[Record]) -> None:
        self._group = group
        self.added: list[Record] = []
        self.closed: list[Record] = []
        self.done: dict[Record, CompletionStatus] = {}

    def sort(self, known: dict[str, CompletionStatus]) -> None:
        """Decide for each record by the row that its id has, if any."""
        taken = set(known)
        for record in self._group:
            if record.id in taken and not record.attempted:
                record.rename()  # The upstream gave an id twice: the row in the way is another request's.
            status = known.get(record.id) if record.attempted else None
            taken.add(record.id)
            record.attempted = True
            self._place(record, status)

    def _place(self, record: Record, status: CompletionStatus | None) -> None:
        self.done[record] = record.status
        if status is None:
            self.added.append(record)
        elif status != "open":
            self.done[record] = status
        elif record.closed:
            self.closed.append(record)
