"""People, invites and keys."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.database import credentials
from services.database.tables import Invite, Key, Person, Role, new_id, now


async def list_people(session: AsyncSession) -> Sequence[Person]:
    """Everybody, the first to come first."""
    return (await session.scalars(select(Person).order_by(Person.created_at, Person.id))).all()


async def invite(session: AsyncSession, person_id: str, role: Role, days: float) -> tuple[Invite, str]:
    """A new invite by ``person_id``, and its token, which is shown once."""
    token = credentials.new_secret(credentials.INVITE_PREFIX)
    row = Invite(
        id=new_id("invite_"),
        sha256=credentials.digest(token),
        role=role,
        person_id=person_id,
        expires_at=now() + timedelta(days=days),
    )
    session.add(row)
    await session.flush()
    return row, token


async def join(session: AsyncSession, token: str, name: str) -> Person | None:
    """Use an invite once: the person it made, or None when it is unknown, used or expired.

    One UPDATE claims it, so of two who race with one token only one joins.
    """
    moment = now()
    unused = (
        Invite.sha256 == credentials.digest(token),
        Invite.used_at.is_(None),
        Invite.expires_at > moment,
    )
    claim = update(Invite).where(*unused).values(used_at=moment).returning(Invite.id, Invite.role)
    claimed = (await session.execute(claim)).one_or_none()
    if claimed is None:
        return None
    person = Person(id=new_id("person_"), name=name, role=claimed.role)
    session.add(person)
    await session.flush()
    await session.execute(update(Invite).where(Invite.id == claimed.id).values(used_by=person.id))
    return person


async def create_key(
    session: AsyncSession, person_id: str, name: str, store_default: bool
) -> tuple[Key, str]:
    """A new key of ``person_id``, and the key itself, which is shown once."""
    row, secret = credentials.new_key(person_id, name, store_default)
    session.add(row)
    await session.flush()
    return row, secret


async def list_keys(session: AsyncSession, person_id: str | None) -> Sequence[Key]:
    """Keys that are not revoked: of one person, or (None) of everybody."""
    keys = select(Key).where(Key.revoked_at.is_(None)).order_by(Key.created_at, Key.id)
    return (
        await session.scalars(keys if person_id is None else keys.where(Key.person_id == person_id))
    ).all()


async def revoke_key(session: AsyncSession, key_id: str, person_id: str | None) -> bool:
    """Revoke a key, of ``person_id`` only unless None; whether there was one to revoke."""
    found = update(Key).where(Key.id == key_id, Key.revoked_at.is_(None))
    mine = found if person_id is None else found.where(Key.person_id == person_id)
    revoked = await session.execute(mine.values(revoked_at=now()).returning(Key.id))
    return revoked.one_or_none() is not None
