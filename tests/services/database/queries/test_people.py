import asyncio

from services.database.engine import Database
from services.database.queries import people
from services.database.tables import Invite, Person


async def _invite(database: Database, owner: Person, days: float = 7) -> str:
    async with database.session() as session:
        _, token = await people.invite(session, owner.id, "member", days)
    return token


async def _join(database: Database, token: str, name: str) -> Person | None:
    async with database.session() as session:
        return await people.join(session, token, name)


async def test_an_invite_raced_by_many_lets_exactly_one_in(database: Database, owner: Person) -> None:
    token = await _invite(database, owner)
    joined = await asyncio.gather(*(_join(database, token, f"racer {number}") for number in range(8)))
    winners = [person for person in joined if person]
    assert len(winners) == 1
    async with database.read() as session:
        assert len(await people.list_people(session)) == 2
    assert winners[0].role == "member"


async def test_an_invite_remembers_who_used_it(database: Database, owner: Person) -> None:
    async with database.session() as session:
        row, token = await people.invite(session, owner.id, "owner", 7)
    person = await _join(database, token, "Cleo")
    assert person is not None
    assert person.role == "owner"
    async with database.read() as session:
        invite = await session.get_one(Invite, row.id)
    assert invite.used_by == person.id
    assert invite.used_at is not None


async def test_an_expired_or_unknown_invite_lets_nobody_in(database: Database, owner: Person) -> None:
    assert await _join(database, await _invite(database, owner, days=-1), "late") is None
    assert await _join(database, "invite-made-up", "guest") is None


async def test_a_key_is_revoked_by_whom_it_belongs_to_and_leaves_the_list(
    database: Database, owner: Person, member: Person
) -> None:
    async with database.session() as session:
        row, _ = await people.create_key(session, member.id, "laptop", store_default=False)
        await people.create_key(session, owner.id, "server", store_default=False)
    async with database.session() as session:
        assert not await people.revoke_key(session, row.id, owner.id)
        assert await people.revoke_key(session, row.id, member.id)
        assert not await people.revoke_key(session, row.id, None)
    async with database.read() as session:
        assert [key.name for key in await people.list_keys(session, None)] == ["server"]
        assert await people.list_keys(session, member.id) == []
