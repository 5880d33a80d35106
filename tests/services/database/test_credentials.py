from datetime import timedelta

import jwt
from sqlalchemy import select

from services.database import credentials
from services.database.credentials import authenticate, ensure_owner, first_owner, issue_session, new_key
from services.database.engine import Database
from services.database.tables import Key, Person, now

SECRET = "a secret of this test that is long enough"


async def _who(database: Database, bearer: str) -> credentials.Caller | None:
    async with database.read() as session:
        return await authenticate(session, bearer, SECRET)


async def test_a_key_opens_until_it_is_revoked_and_is_kept_as_a_digest_only(
    database: Database, member: Person
) -> None:
    row, secret = new_key(member.id, "laptop", store_default=True)
    async with database.session() as session:
        session.add(row)
    caller = await _who(database, secret)
    assert caller is not None
    assert (caller.person_id, caller.key_id, caller.store_default) == (member.id, row.id, True)
    assert not caller.is_owner
    assert secret.startswith("sk-onggi-")
    assert len(secret) == len("sk-onggi-") + 43
    assert secret not in (row.sha256, row.prefix)
    async with database.session() as session:
        (await session.get_one(Key, row.id)).revoked_at = now()
    assert await _who(database, secret) is None


async def test_a_session_opens_with_the_persons_present_role(database: Database, member: Person) -> None:
    token = issue_session(member, SECRET)
    async with database.session() as session:
        (await session.get_one(Person, member.id)).role = "owner"
    caller = await _who(database, token)
    assert caller is not None
    assert caller.is_owner
    assert caller.key_id is None


async def test_a_disabled_person_has_neither_session_nor_key(database: Database, member: Person) -> None:
    row, secret = new_key(member.id, "laptop")
    async with database.session() as session:
        session.add(row)
        (await session.get_one(Person, member.id)).disabled_at = now()
    assert await _who(database, secret) is None
    assert await _who(database, issue_session(member, SECRET)) is None


async def test_a_token_expired_forged_or_unsigned_opens_nothing(database: Database, owner: Person) -> None:
    claims = {"sub": owner.id, "exp": now() + timedelta(days=1)}
    bad = [
        issue_session(owner, SECRET, days=-1),
        issue_session(owner, f"{SECRET}?"),
        jwt.encode(claims, "", algorithm="none"),
        jwt.encode({"sub": owner.id}, SECRET, algorithm="HS256"),  # never expires
        "sk-onggi-nothing",
        "",
    ]
    assert [await _who(database, token) for token in bad] == [None] * len(bad)


async def test_there_is_one_first_owner_and_the_settings_key_is_theirs(database: Database) -> None:
    async with database.session() as session:
        made = await ensure_owner(session, "ada", "sk-first")
    async with database.session() as session:
        again = await ensure_owner(session, "somebody else", "sk-first")
    assert again.person_id == made.person_id
    caller = await _who(database, "sk-first")
    assert caller is not None
    assert (caller.name, caller.role) == ("ada", "owner")
    async with database.read() as session:
        assert await first_owner(session) is not None
        assert len((await session.scalars(select(Person))).all()) == 1


async def test_a_changed_settings_key_revokes_the_former_and_may_come_back(database: Database) -> None:
    for api_key in ("sk-first", "sk-second"):
        async with database.session() as session:
            await ensure_owner(session, "ada", api_key)
    assert await _who(database, "sk-first") is None
    assert await _who(database, "sk-second") is not None
    async with database.session() as session:
        await ensure_owner(session, "ada", "sk-first")
    assert await _who(database, "sk-first") is not None
    assert await _who(database, "sk-second") is None
