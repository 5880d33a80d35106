"""People, invites and keys. A token or key is in exactly one answer: the one that makes it."""

from typing import Literal

from pydantic import Field

from services.control.shapes.base import Given, Name, Seconds, Shown
from services.database.tables import Role


class PersonPublic(Shown):
    """Somebody of the team."""

    object: Literal["person"] = "person"
    id: str
    name: str
    role: Role
    created_at: Seconds
    disabled_at: Seconds | None


class InviteCreate(Given):
    """A link for one new person."""

    role: Role = "member"
    days: float = Field(default=7, gt=0, le=90)


class InviteCreated(Shown):
    """The invite and, this once, its token."""

    object: Literal["invite"] = "invite"
    id: str
    role: Role
    created_at: Seconds
    expires_at: Seconds
    token: str


class Join(Given):
    """What the invited person sends."""

    token: str
    name: Name


class Joined(Shown):
    """The new person, and the session token to send as the bearer from now on."""

    person: PersonPublic
    token: str


class KeyCreate(Given):
    """An API key; ``person_id`` is for owners, who may make keys for others."""

    name: Name
    store_default: bool = False
    person_id: str | None = None


class KeyPublic(Shown):
    """An API key without its secret."""

    object: Literal["key"] = "key"
    id: str
    person_id: str
    name: str
    prefix: str
    store_default: bool
    created_at: Seconds


class KeyCreated(KeyPublic):
    """An API key and, this once, the key itself."""

    key: str
