"""Completion rows as the gateway writes them: opened, kept alive, closed once."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from sqlalchemy import CursorResult, Table, bindparam, case, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.database.tables import Completion, CompletionStatus

# What a row is closed with.
CLOSING = (
    "status",
    "answer",
    "prompt_tokens",
    "completion_tokens",
    "tokens_exact",
    "ttft_ms",
    "latency_ms",
    "finish_reason",
    "status_code",
    "error",
    "finished_at",
)
# The plain table: an update by the mapped class would look for the rows in the session as well.
_TABLE = cast(Table, Completion.__table__)


async def lock(session: AsyncSession, ids: Sequence[str]) -> dict[str, CompletionStatus]:
    """The states of those of ``ids`` that have a row, locked until the transaction ends.

    In order of the ids, so that two transactions never wait for each other.
    """
    rows = select(Completion.id, Completion.status).where(Completion.id.in_(ids)).order_by(Completion.id)
    return {row.id: row.status for row in await session.execute(rows.with_for_update())}


async def add(session: AsyncSession, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert whole rows, open or closed."""
    if rows:
        await session.execute(insert(Completion), [dict(row) for row in rows])


async def close(session: AsyncSession, rows: Sequence[Mapping[str, Any]]) -> None:
    """Close rows that are open: ``rows`` hold the id and every column of ``CLOSING``.

    Whether text is stored is the row's word by then: it may have been erased while the answer came.
    """
    if not rows:
        return
    statement = update(_TABLE).where(_TABLE.c.id == bindparam("row_id"), _TABLE.c.status == "open")
    values: dict[str, Any] = {name: bindparam(name) for name in CLOSING} | {"lease_until": None}
    values["answer"] = case((_TABLE.c.stored, bindparam("answer", type_=_TABLE.c.answer.type)))
    connection = await session.connection()
    await connection.execute(
        statement.values(values),
        [{"row_id": row["id"]} | {name: row[name] for name in CLOSING} for row in rows],
    )


async def renew(session: AsyncSession, tokens: Mapping[str, int], lease_until: datetime) -> None:
    """Keep the open rows named by ``tokens`` alive, and note how many tokens each has got so far."""
    if not tokens:
        return
    statement = update(_TABLE).where(_TABLE.c.id == bindparam("row_id"), _TABLE.c.status == "open")
    statement = statement.values(lease_until=lease_until, completion_tokens=bindparam("tokens"))
    connection = await session.connection()
    await connection.execute(
        statement, [{"row_id": name, "tokens": count} for name, count in sorted(tokens.items())]
    )


async def sweep(session: AsyncSession, gateway_id: str, moment: datetime) -> int:
    """Close as interrupted what gateways other than ``gateway_id`` left open past its lease.

    Their last flushed count stays, marked as not exact. Returns how many rows were closed.
    """
    lapsed = (
        Completion.status == "open",
        Completion.lease_until < moment,
        Completion.gateway_id != gateway_id,
    )
    result = await session.execute(
        update(Completion)
        .where(*lapsed)
        .values(
            status="interrupted",
            tokens_exact=False,
            lease_until=None,
            finished_at=moment,
            error="the gateway that served it ended",
        )
        .execution_options(synchronize_session=False)
    )
    return result.rowcount if isinstance(result, CursorResult) else 0
