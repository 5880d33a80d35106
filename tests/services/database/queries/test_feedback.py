import pytest_asyncio

from services.database.engine import Database
from services.database.queries import conversations, feedback
from services.database.tables import Completion, Feedback, Person


@pytest_asyncio.fixture
async def completion(database: Database, member: Person) -> Completion:
    row = Completion(
        id="chatcmpl-1",
        person_id=member.id,
        conversation_key="talk",
        model="support-bot",
        bot="support-bot",
        version=7,
        arm="champion",
        status="done",
        gateway_id="g",
        stored=True,
        messages=[{"role": "user", "content": "안녕?"}],
        answer={"role": "assistant", "content": "안녕!"},
    )
    async with database.session() as session:
        session.add(row)
    return row


async def _say(database: Database, member: Person, completion: Completion, comment: str) -> Feedback:
    async with database.session() as session:
        return await feedback.add(session, member.id, completion, rating=1, correction=None, comment=comment)


async def test_pages_by_cursor_hold_every_row_once_in_order_of_change(
    database: Database, member: Person, completion: Completion
) -> None:
    rows = [await _say(database, member, completion, str(number)) for number in range(5)]
    seen, after = [], None
    while True:
        async with database.read() as session:
            page = await feedback.page(session, None, after=after, limit=2)
        if not page:
            break
        seen += [row.comment for row in page]
        after = (page[-1].updated_at, page[-1].id)
    assert seen == ["0", "1", "2", "3", "4"]
    async with database.session() as session:
        changed = await session.get_one(Feedback, rows[0].id)
        await feedback.change(session, changed, state="accepted")
    async with database.read() as session:
        [again] = await feedback.page(session, None, after=after, limit=2)
    assert (again.id, again.state) == (rows[0].id, "accepted")


async def test_pages_filter_by_person_bot_and_state(
    database: Database, owner: Person, member: Person, completion: Completion
) -> None:
    await _say(database, member, completion, "mine")
    async with database.read() as session:
        assert await feedback.page(session, owner.id, after=None, limit=9) == []
        assert await feedback.page(session, None, after=None, limit=9, bot="other") == []
        assert await feedback.page(session, None, after=None, limit=9, state="fixed") == []
        [row] = await feedback.page(session, member.id, after=None, limit=9, bot="support-bot", state="new")
    assert (row.version, row.conversation_key) == (7, "talk")


async def test_feedback_stays_when_its_completion_is_erased(
    database: Database, member: Person, completion: Completion
) -> None:
    row = await _say(database, member, completion, "kept")
    async with database.session() as session:
        await session.delete(await session.get_one(Completion, completion.id))
    async with database.read() as session:
        found = await session.get_one(Feedback, row.id)
    assert (found.completion_id, found.version) == (None, 7)


async def test_a_conversation_shows_its_turns_and_what_was_said_of_them(
    database: Database, owner: Person, member: Person, completion: Completion
) -> None:
    await _say(database, member, completion, "good")
    async with database.read() as session:
        [summary] = await conversations.page(session, member.id, limit=9, offset=0)
        assert await conversations.page(session, owner.id, limit=9, offset=0) == []
        assert await conversations.turns(session, "talk", owner.id) == []
        [turn] = await conversations.turns(session, "talk", member.id)
        said = await conversations.feedback_on(session, [turn.id])
    assert (summary.conversation_key, summary.turns) == ("talk", 1)
    assert summary.started_at.tzinfo is not None
    assert turn.messages == [{"role": "user", "content": "안녕?"}]
    assert [row.comment for row in said[turn.id]] == ["good"]
