import asyncio
from typing import Any

import pytest
import pytest_asyncio

from services.database.engine import Database
from services.database.queries import bots, served, versions
from services.database.queries.bots import SYSTEM, Served
from services.database.tables import Person, Version

TAGS: dict[str, Any] = {
    "base": "SmolLM2",
    "revision": "sha256:1",
    "rank": 16,
    "sha256": "sha256:2",
    "method": "lora",
    "run_id": "run",
    "job_id": "ftjob-1",
    "dataset_digest": "sha256:3",
    "figures": {"validation_loss": 1.5},
}


@pytest_asyncio.fixture(autouse=True)
async def _bot(database: Database, owner: Person) -> None:
    async with database.session() as session:
        await bots.ensure(session, "support-bot", owner.id, "SmolLM2", "sha256:1")


async def _write(database: Database, owner: Person, **changes: Any) -> bool:
    async with database.session() as session:
        return await versions.upsert(session, "support-bot", 7, owner.id, TAGS | changes)


async def _read(database: Database) -> Version:
    async with database.read() as session:
        version = await versions.get(session, "support-bot", 7)
    assert version is not None
    return version


async def test_a_version_is_new_once_and_begins_ungated(database: Database, owner: Person) -> None:
    written = await asyncio.gather(*(_write(database, owner) for _ in range(4)))
    assert written.count(True) == 1
    version = await _read(database)
    assert (version.state, version.rank, version.figures) == ("ungated", 16, {"validation_loss": 1.5})


async def test_the_registry_wins_on_tags_and_the_database_on_state_and_verdict(
    database: Database, owner: Person
) -> None:
    await _write(database, owner)
    async with database.session() as session:
        verdict = {"figures": {"fixed": 14}, "sentence": "fixed 14 of 17", "note": "# Note"}
        assert await versions.set_verdict(session, "support-bot", 7, "passed", **verdict)
    assert not await _write(database, owner, rank=32, run_id=None)
    version = await _read(database)
    assert (version.rank, version.run_id) == (32, None)
    assert (version.state, version.figures, version.sentence) == ("passed", {"fixed": 14}, "fixed 14 of 17")


async def test_a_served_version_is_not_retired_and_a_retired_one_is_not_judged(
    database: Database, owner: Person
) -> None:
    await _write(database, owner)
    async with database.session() as session:
        await bots.swap(session, "support-bot", 0, Served("SmolLM2", None, 7, None), "promote", SYSTEM)
        assert not await served.retire(session, "support-bot", 7)
        await bots.swap(session, "support-bot", 1, Served("SmolLM2", None, None, 7), "rollback", SYSTEM)
        assert await served.retire(session, "support-bot", 7)
        with pytest.raises(LookupError):
            await served.retire(session, "support-bot", 7)
        verdict = {"figures": {}, "sentence": "", "note": ""}
        assert not await versions.set_verdict(session, "support-bot", 7, "passed", **verdict)


async def test_a_version_raced_by_promotion_and_retirement_is_never_both(
    database: Database, owner: Person
) -> None:
    await _write(database, owner)

    async def promote() -> bool:
        async with database.session() as session:
            await bots.lock(session, "support-bot")
            version = await versions.get(session, "support-bot", 7)
            await asyncio.sleep(0.02)
            if version is None or version.state == "retired":
                return False
            return await bots.swap(session, "support-bot", 0, Served("S", None, 7, None), "promote", SYSTEM)

    async def retire() -> bool:
        async with database.session() as session:
            return await served.retire(session, "support-bot", 7)

    assert sorted(await asyncio.gather(promote(), retire())) == [False, True]


async def test_a_job_finds_its_version(database: Database, owner: Person) -> None:
    await _write(database, owner)
    async with database.read() as session:
        found = await versions.of_job(session, "ftjob-1")
        assert await versions.of_job(session, "ftjob-2") is None
    assert found is not None
    assert found.number == 7
