import asyncio

from services.database.engine import Database
from services.database.queries import bots
from services.database.queries.bots import SYSTEM, Author, Served
from services.database.tables import Person


async def _make(database: Database, owner: Person) -> bool:
    async with database.session() as session:
        return await bots.ensure(session, "support-bot", owner.id, "SmolLM2", "sha256:1")


async def _promote(database: Database, number: int, generation: int, author: Author = SYSTEM) -> bool:
    async with database.session() as session:
        served = Served("SmolLM2", "sha256:1", champion=number, previous=None)
        return await bots.swap(
            session, "support-bot", generation, served, "promote", author, reason="because"
        )


async def test_a_bot_made_by_many_at_once_is_made_once_at_generation_0(
    database: Database, owner: Person
) -> None:
    assert sorted(await asyncio.gather(*(_make(database, owner) for _ in range(5)))) == [False] * 4 + [True]
    async with database.read() as session:
        bot = await bots.get(session, "support-bot")
        decisions = await bots.decisions(session, "support-bot", 10)
    assert bot is not None
    assert (bot.champion, bot.generation, bot.share) == (None, 0, 0.0)
    assert [(decision.generation, decision.action) for decision in decisions] == [(0, "create")]


async def test_of_many_decisions_on_one_generation_exactly_one_is_written(
    database: Database, owner: Person
) -> None:
    await _make(database, owner)
    won = await asyncio.gather(*(_promote(database, number, 0) for number in range(1, 9)))
    assert won.count(True) == 1
    async with database.read() as session:
        bot = await bots.get(session, "support-bot")
        decisions = await bots.decisions(session, "support-bot", 10)
    assert bot is not None
    assert (bot.generation, bot.champion) == (1, won.index(True) + 1)
    assert [decision.generation for decision in decisions] == [1, 0]
    assert decisions[0].champion == bot.champion


async def test_a_decision_is_appended_with_author_reason_and_figures(
    database: Database, owner: Person
) -> None:
    await _make(database, owner)
    async with database.session() as session:
        served = Served("SmolLM2", "sha256:1", champion=None, previous=None, candidate=3, share=0.25)
        author = Author(owner.id, owner.name)
        won = await bots.swap(
            session, "support-bot", 0, served, "candidate", author, reason="try it", figures={"fixed": 14}
        )
    assert won
    async with database.read() as session:
        [decision, _] = await bots.decisions(session, "support-bot", 10)
    assert (decision.candidate, decision.share, decision.figures) == (3, 0.25, {"fixed": 14})
    assert (decision.person_id, decision.author, decision.reason) == (owner.id, "Ada", "try it")


async def test_a_bot_that_is_not_there_cannot_be_swapped(database: Database) -> None:
    assert not await _promote(database, 1, 0)
