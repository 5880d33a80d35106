"""Rows that finish together go into one transaction, and a bad one among them harms only itself."""

import asyncio
import io
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy import event, select

from services.database.engine import Database
from services.database.queries import completions
from services.database.tables import Completion, Person, now
from services.gateway.ledger import Ledger, NotSavedError
from services.gateway.record import Record, begin
from services.gateway.requests import CompletionRequest
from services.gateway.served import Target
from tests.services.gateway.conftest import both_databases, eventually, fill


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    await fill(database)
    yield database
    await database.close()


@pytest.fixture
async def ledger(database: Database) -> AsyncIterator[Ledger]:
    ledger = Ledger(database, "gw_test")
    await ledger.start()
    yield ledger
    await ledger.stop()


async def record(database: Database, gateway_id: str = "gw_test") -> Record:
    """A record as the route makes it."""
    async with database.session() as session:
        person = (await session.scalars(select(Person.id).order_by(Person.name))).first()
    request = CompletionRequest("chat", "base", {"messages": []}, stream=True, wants_usage=False, store=None)
    return begin(
        request,
        Target("base", "base"),
        person_id=person or "",
        key_id=None,
        conversation="c",
        stored=False,
        gateway_id=gateway_id,
        trace_id=None,
    )


async def is_committed(record: Record) -> bool:
    return record.committed


async def all_rows(database: Database) -> list[Completion]:
    async with database.session() as session:
        return list(await session.scalars(select(Completion)))


@both_databases
async def test_a_hundred_that_finish_together_take_a_few_transactions(
    database: Database, ledger: Ledger
) -> None:
    records = [await record(database) for _ in range(100)]
    commits: list[object] = []
    event.listen(database.engine.sync_engine, "commit", commits.append)
    for each in records:
        ledger.open(each)
    await asyncio.sleep(0)
    for each in records:
        each.close("done", completion_tokens=1, prompt_tokens=1, tokens_exact=True)
    await asyncio.gather(*(ledger.finish(each) for each in records))
    rows = await all_rows(database)
    assert [row.status for row in rows] == ["done"] * 100
    assert len(commits) <= 6


@both_databases
async def test_a_row_that_the_database_refuses_does_not_hold_up_the_others_nor_reach_the_log(
    database: Database, ledger: Ledger, logs: io.StringIO
) -> None:
    good, bad = [await record(database) for _ in range(5)], await record(database)
    bad.values.update(person_id="nobody", messages=[{"content": "the-words-of-a-person"}])
    for each in (*good, bad):
        each.close("done", completion_tokens=1)
    results = await asyncio.gather(*(ledger.finish(each) for each in (*good, bad)), return_exceptions=True)
    assert results[:5] == [None] * 5
    assert isinstance(results[5], NotSavedError)
    assert len(await all_rows(database)) == 5
    assert bad.id in logs.getvalue()
    assert "the-words-of-a-person" not in logs.getvalue()


async def test_a_number_too_large_for_the_database_harms_only_its_row(
    database: Database, ledger: Ledger
) -> None:
    good, bad = await record(database), await record(database)
    good.close("done", completion_tokens=1)
    bad.close("done", completion_tokens=2**70)
    results = await asyncio.gather(ledger.finish(bad), ledger.finish(good), return_exceptions=True)
    assert isinstance(results[0], NotSavedError)
    assert results[1] is None


@both_databases
async def test_a_row_swept_while_its_gateway_could_not_renew_it_is_not_closed_again(
    database: Database, ledger: Ledger
) -> None:
    kept = await record(database)
    ledger.open(kept)
    await eventually(partial(is_committed, kept))
    async with database.session() as session:
        assert await completions.sweep(session, "gw_test", now() + timedelta(seconds=60)) == 0
        assert await completions.sweep(session, "gw_other", now() + timedelta(seconds=60)) == 1
    kept.close("done", completion_tokens=5)
    with pytest.raises(NotSavedError):
        await ledger.finish(kept)
    [row] = await all_rows(database)
    assert (row.status, row.tokens_exact) == ("interrupted", False)


@both_databases
async def test_a_lease_that_runs_is_not_swept(database: Database, ledger: Ledger) -> None:
    kept = await record(database)
    ledger.open(kept)
    await eventually(partial(is_committed, kept))
    async with database.session() as session:
        assert await completions.sweep(session, "gw_other", now()) == 0
    kept.close("done", completion_tokens=5)
    await ledger.finish(kept)


async def test_stopping_writes_what_is_due(database: Database) -> None:
    ledger = Ledger(database, "gw_test")
    await ledger.start()
    kept = await record(database)
    ledger.open(kept)
    kept.close("interrupted", error="stopped")
    ledger.close(kept)
    await ledger.stop()
    assert [row.status for row in await all_rows(database)] == ["interrupted"]
