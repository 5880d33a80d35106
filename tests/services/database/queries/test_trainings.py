from datetime import timedelta

from sqlalchemy import select

from services.database.engine import Database
from services.database.queries import trainings
from services.database.tables import Person, Training, now


async def test_what_runs_now_replaces_what_ran_and_the_earliest_end_ahead_is_told(
    database: Database, owner: Person
) -> None:
    soon, later = now() + timedelta(minutes=5), now() + timedelta(hours=1)

    async def run(**until: object) -> None:
        rows = [Training(job_id=name, person_id=owner.id, until=end) for name, end in until.items()]
        async with database.session() as session:
            await trainings.replace(session, rows)

    async def told() -> object:
        async with database.read() as session:
            return await trainings.ends(session)

    assert await told() is None
    await run(a=None)
    assert await told() is None
    await run(a=later, b=soon)
    assert await told() == soon
    await run(a=later, b=now() - timedelta(seconds=1))  # overdue: not a time to come back at
    assert await told() == later
    await run(b=later)
    async with database.read() as session:
        assert [row.job_id for row in await session.scalars(select(Training))] == ["b"]
    await run()
    assert await told() is None
