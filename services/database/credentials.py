"""Who is calling: API keys (random, kept as sha256) and session tokens (JWT, HS256).

A key has 256 random bits, so its plain sha256 cannot be searched for; passwords are not kept at all.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import jwt
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.database.tables import Key, Person, Role, new_id, now

KEY_PREFIX = "sk-onggi-"
INVITE_PREFIX = "invite-"
SESSION_DAYS = 30
BOOTSTRAP = "API_KEY"
_ALGORITHM = "HS256"
# Shown in lists so that people recognise a key; 4 characters of 43 tell nothing.
_SHOWN = len(KEY_PREFIX) + 4


@dataclass(frozen=True)
class Caller:
    """An authenticated person, by which key (None: a session), and whether text is stored by default."""

    person_id: str
    name: str
    role: Role
    key_id: str | None
    store_default: bool

    @property
    def is_owner(self) -> bool:
        """Whether this person may decide: promote, invite, see everybody's text."""
        return self.role == "owner"


def new_secret(prefix: str) -> str:
    """``prefix`` and 43 URL-safe characters, 256 random bits."""
    return prefix + secrets.token_urlsafe(32)


def digest(secret: str) -> str:
    """What is kept of a secret: its sha256 in hex."""
    return hashlib.sha256(secret.encode()).hexdigest()


def same(given: str, expected: str) -> bool:
    """Whether two secrets are equal, in a time that does not depend on where they differ."""
    return hmac.compare_digest(given.encode(), expected.encode())


def new_key(person_id: str, name: str, store_default: bool = False) -> tuple[Key, str]:
    """A key's row, not yet added, and the key itself, which is shown once and then nowhere."""
    secret = new_secret(KEY_PREFIX)
    return _key_row(person_id, name, secret, store_default), secret


def issue_session(person: Person, jwt_secret: str, days: float = SESSION_DAYS) -> str:
    """A session token for ``person``: claims ``sub``, ``role``, ``iat`` and ``exp``."""
    moment = now()
    claims = {"sub": person.id, "role": person.role, "iat": moment, "exp": moment + timedelta(days=days)}
    return jwt.encode(claims, jwt_secret, algorithm=_ALGORITHM)


async def authenticate(session: AsyncSession, bearer: str, jwt_secret: str) -> Caller | None:
    """The caller behind an ``Authorization: Bearer`` value; None when it opens nothing.

    The role is the person's present one, not the token's, and a disabled person has none.
    """
    key = await session.scalar(select(Key).where(Key.sha256 == digest(bearer)))
    if key is not None:
        valid = same(key.sha256, digest(bearer)) and key.revoked_at is None
        person = await session.get(Person, key.person_id) if valid else None
        return _caller(person, key)
    subject = _subject(bearer, jwt_secret)
    return _caller(await session.get(Person, subject)) if subject else None


async def first_owner(session: AsyncSession) -> Caller | None:
    """The oldest owner: who everybody is with ``ENABLE_AUTH=false``, and who owns what the system makes."""
    return _caller(await _first_owner(session))


async def ensure_owner(session: AsyncSession, name: str, api_key: str = "") -> Caller:
    """Make sure that there is an owner, called ``name`` if made now, and that ``api_key`` is the first's.

    A changed ``api_key`` revokes the one that the setting held before.
    """
    owner = await _first_owner(session)
    if owner is None:
        owner = Person(id=new_id("person_"), name=name, role="owner")
        session.add(owner)
        await session.flush()
    await _set_bootstrap_key(session, owner, api_key)
    return Caller(owner.id, owner.name, owner.role, None, True)


async def _first_owner(session: AsyncSession) -> Person | None:
    owners = select(Person).where(Person.role == "owner", Person.disabled_at.is_(None))
    return (await session.scalars(owners.order_by(Person.created_at, Person.id).limit(1))).first()


async def _set_bootstrap_key(session: AsyncSession, owner: Person, api_key: str) -> None:
    sha256 = digest(api_key)
    former = update(Key).where(Key.name == BOOTSTRAP, Key.sha256 != sha256, Key.revoked_at.is_(None))
    await session.execute(former.values(revoked_at=now()))
    if not api_key:
        return
    key = await session.scalar(select(Key).where(Key.sha256 == sha256))
    if key is None:
        session.add(_key_row(owner.id, BOOTSTRAP, api_key, False))
    else:
        key.revoked_at = None


def _key_row(person_id: str, name: str, secret: str, store_default: bool) -> Key:
    shown = secret[:_SHOWN] if secret.startswith(KEY_PREFIX) else secret[:2]
    sha256 = digest(secret)
    return Key(
        id=new_id("key_"),
        person_id=person_id,
        name=name,
        prefix=f"{shown}…",
        sha256=sha256,
        store_default=store_default,
    )


def _subject(token: str, jwt_secret: str) -> str | None:
    try:
        claims: dict[str, Any] = jwt.decode(
            token, jwt_secret, algorithms=[_ALGORITHM], options={"require": ["exp", "sub"]}
        )
    except jwt.InvalidTokenError:
        return None
    return str(claims["sub"])


def _caller(person: Person | None, key: Key | None = None) -> Caller | None:
    if person is None or person.disabled_at is not None:
        return None
    store_default = key.store_default if key else True
    return Caller(person.id, person.name, person.role, key.id if key else None, store_default)
