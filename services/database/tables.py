"""The tables. Every row has an owner; ids are prefixed strings; times are timezone-aware UTC.

Texts that only a few values are allowed in (states, arms, roles) are plain strings in the database and
``Literal`` here: a new value needs no migration, so an older image goes on beside a newer database.
"""

import hashlib
import secrets
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    ForeignKey,
    Index,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    false,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

Role = Literal["owner", "member"]
VersionState = Literal["ungated", "passed", "refused", "retired"]
Arm = Literal["champion", "candidate", "pinned", "base", "shadow"]
CompletionStatus = Literal["open", "done", "interrupted", "failed"]
FeedbackState = Literal["new", "accepted", "fixed", "rejected"]
Action = Literal["create", "promote", "rollback", "candidate", "pin", "unpin", "shadow", "inconclusive"]
Choice = Literal["first", "second", "tie"]
RetrainState = Literal["claimed", "started", "refused"]
TombstoneKind = Literal["person", "conversation"]


def now() -> datetime:
    """This moment, aware, in UTC."""
    return datetime.now(UTC)


def new_id(prefix: str) -> str:
    """A fresh id: ``prefix`` as given, with its dash or underscore (``file-``), and 96 random bits in hex."""
    return prefix + secrets.token_hex(12)


def keyed_id(prefix: str, person_id: str, key: str) -> str:
    """The id of what a person makes with an idempotency key: the same key, the same id."""
    return prefix + hashlib.sha256(f"{person_id}\0{key}".encode()).hexdigest()[:24]


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC times in and out; SQLite, which has no zones, keeps them as naive UTC.

    Raises:
        ValueError: a time without a zone was given, which would be a guess.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"the time {value} has no zone: give an aware one")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


# none_as_null: Python's None is SQL's NULL, never the JSON document `null`.
Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


class Base(DeclarativeBase):
    """Names of constraints follow one convention, so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: UtcDateTime, dict[str, Any]: Json, list[dict[str, Any]]: Json}  # noqa: RUF012


class Person(Base):
    """Somebody of the team. A disabled person's keys and sessions are refused."""

    __tablename__ = "people"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    email: Mapped[str | None] = mapped_column(String(320), unique=True)
    role: Mapped[Role] = mapped_column(String(16))
    created_at: Mapped[datetime] = mapped_column(default=now)
    disabled_at: Mapped[datetime | None]


class Invite(Base):
    """A single-use link; only the token's sha256 is kept."""

    __tablename__ = "invites"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    role: Mapped[Role] = mapped_column(String(16))
    person_id: Mapped[str] = mapped_column(ForeignKey("people.id"), index=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    used_by: Mapped[str | None] = mapped_column(ForeignKey("people.id"))


class Key(Base):
    """An API key; only its sha256 and its first characters are kept."""

    __tablename__ = "keys"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    person_id: Mapped[str] = mapped_column(ForeignKey("people.id"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    prefix: Mapped[str] = mapped_column(String(20))
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    store_default: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = mapped_column(default=now)
    revoked_at: Mapped[datetime | None]


class File(Base):
    """An uploaded file; its bytes are in the object store at ``files/<id>``."""

    __tablename__ = "files"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    person_id: Mapped[str] = mapped_column(ForeignKey("people.id"), index=True)
    filename: Mapped[str] = mapped_column(String(400))
    purpose: Mapped[str] = mapped_column(String(40))
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(default=now)
    deleted_at: Mapped[datetime | None]


class Bot(Base):
    """What is served under a bot's name. Changed only by compare-and-swap on ``generation``.

    ``champion``, ``previous`` and ``candidate`` are version numbers; a bot without a champion answers with
    its base. ``share`` is the candidate's part of the traffic, 0 to 1; with ``shadow`` it answers too, but
    is not shown. ``pinned`` is a bot whose served version only a person changes.
    """

    __tablename__ = "bots"

    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    person_id: Mapped[str] = mapped_column(ForeignKey("people.id"), index=True)
    base: Mapped[str] = mapped_column(String(200))
    revision: Mapped[str | None] = mapped_column(String(100))
    champion: Mapped[int | None]
    previous: Mapped[int | None]
    candidate: Mapped[int | None]
    share: Mapped[float] = mapped_column(default=0.0)
    shadow: Mapped[bool] = mapped_column(default=False, server_default=false())
    pinned: Mapped[bool] = mapped_column(default=False, server_default=false())
    generation: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(default=now)


class Version(Base):
    """One adapter, ``<bot>@<number>``: a copy of the registry's entry, and its state, which is ours.

    ``sentence`` and ``note`` are the verdict in words and the one-page note in Markdown; ``erased_at`` is
    when words that it was trained on were erased: it is to be retrained without them.
    """

    __tablename__ = "versions"

    bot: Mapped[str] = mapped_column(ForeignKey("bots.name"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    person_id: Mapped[str] = mapped_column(ForeignKey("people.id"), index=True)
    base: Mapped[str] = mapped_column(String(200))
    revision: Mapped[str] = mapped_column(String(100))
    rank: Mapped[int]
    sha256: Mapped[str] = mapped_column(String(80))
    state: Mapped[VersionState] = mapped_column(String(16), default="ungated")
    method: Mapped[str | None] = mapped_column(String(40))
    run_id: Mapped[str | None] = mapped_column(String(64))
    job_id: Mapped[str | None] = mapped_column(String(64), index=True)
    dataset_digest: Mapped[str | None] = mapped_column(String(80))
    figures: Mapped[dict[str, Any] | None]
    sentence: Mapped[str | None] = mapped_column(Text)
    note: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=now)
    erased_at: Mapped[datetime | None]


class Decision(Base):
    """What a bot's row became at one generation, by whom and why; appended, never changed."""

    __tablename__ = "decisions"
    __table_args__ = (UniqueConstraint("bot", "generation"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    bot: Mapped[str] = mapped_column(ForeignKey("bots.name"))
    generation: Mapped[int]
    action: Mapped[Action] = mapped_column(String(16))
    champion: Mapped[int | None]
    previous: Mapped[int | None]
    candidate: Mapped[int | None]
    share: Mapped[float] = mapped_column(default=0.0)
    shadow: Mapped[bool] = mapped_column(default=False, server_default=false())
    pinned: Mapped[bool] = mapped_column(default=False, server_default=false())
    figures: Mapped[dict[str, Any] | None]
    reason: Mapped[str | None] = mapped_column(Text)
    person_id: Mapped[str | None] = mapped_column(ForeignKey("people.id"))
    author: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime] = mapped_column(default=now)


class Training(Base):
    """A fine-tune that holds a card now; ``until`` is when it is expected to let go, None while unknown.

    Control writes these rows, and gateways read them for what they say while nothing serves.
    ``person_id`` None is a job that was not asked for through the API.
    """

    __tablename__ = "trainings"

    job_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    person_id: Mapped[str | None] = mapped_column(ForeignKey("people.id"), index=True)
    until: Mapped[datetime | None]


class Completion(Base):
    """One request to the gateway: usage always; text (messages, answer) only where it may be stored.

    ``shadow_of`` names the completion that a person saw, where this is the candidate's unseen answer to it.
    """

    __tablename__ = "completions"
    __table_args__ = (
        Index("ix_completions_person_id_created_at", "person_id", "created_at"),
        Index("ix_completions_status_lease_until", "status", "lease_until"),
        Index("ix_completions_bot_created_at", "bot", "created_at"),
    )

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    person_id: Mapped[str] = mapped_column(ForeignKey("people.id"))
    key_id: Mapped[str | None] = mapped_column(ForeignKey("keys.id"))
    conversation_key: Mapped[str] = mapped_column(String(200), index=True)
    model: Mapped[str] = mapped_column(String(200))
    bot: Mapped[str | None] = mapped_column(String(40))
    version: Mapped[int | None]
    arm: Mapped[Arm | None] = mapped_column(String(16))
    status: Mapped[CompletionStatus] = mapped_column(String(16))
    gateway_id: Mapped[str] = mapped_column(String(64))
    lease_until: Mapped[datetime | None]
    stream: Mapped[bool] = mapped_column(default=False)
    stored: Mapped[bool] = mapped_column(default=False)
    messages: Mapped[list[dict[str, Any]] | None]
    answer: Mapped[dict[str, Any] | None]
    request: Mapped[dict[str, Any] | None]
    prompt_tokens: Mapped[int | None]
    completion_tokens: Mapped[int | None]
    tokens_exact: Mapped[bool] = mapped_column(default=True)
    ttft_ms: Mapped[float | None]
    latency_ms: Mapped[float | None]
    finish_reason: Mapped[str | None] = mapped_column(String(40))
    status_code: Mapped[int | None]
    error: Mapped[str | None] = mapped_column(Text)
    prompt_version: Mapped[str | None] = mapped_column(String(64))
    trace_id: Mapped[str | None] = mapped_column(String(32))
    shadow_of: Mapped[str | None] = mapped_column(String(64), index=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    finished_at: Mapped[datetime | None]


class Feedback(Base):
    """What a person says about an answer: a rating, a correction, or both.

    ``completion_id`` goes NULL when the completion is erased; bot, version and conversation stay.
    ``fixed`` is a correction that an owner rewrote; ``reviewed_by`` is who accepted, fixed or rejected it.
    ``first_rating`` is what its person first said, at ``rated_at``, whatever they say now: -1 for a
    correction, NULL while there is but a comment.
    """

    __tablename__ = "feedback"
    __table_args__ = (Index("ix_feedback_updated_at_id", "updated_at", "id"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    person_id: Mapped[str] = mapped_column(ForeignKey("people.id"), index=True)
    completion_id: Mapped[str | None] = mapped_column(
        ForeignKey("completions.id", ondelete="SET NULL"), index=True
    )
    conversation_key: Mapped[str] = mapped_column(String(200))
    bot: Mapped[str | None] = mapped_column(String(40))
    version: Mapped[int | None]
    rating: Mapped[int | None]
    first_rating: Mapped[int | None]
    rated_at: Mapped[datetime | None]
    correction: Mapped[str | None] = mapped_column(Text)
    comment: Mapped[str | None] = mapped_column(Text)
    state: Mapped[FeedbackState] = mapped_column(String(16), default="new")
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now)
    reviewed_by: Mapped[str | None] = mapped_column(ForeignKey("people.id"))
    reviewed_at: Mapped[datetime | None]


class Comparison(Base):
    """Two answers to one message, shown without names: which one a person chose, if they did.

    ``first`` and ``second`` are in the order shown; the versions stay when the completions are erased.
    """

    __tablename__ = "comparisons"
    __table_args__ = (Index("ix_comparisons_bot_chosen_at", "bot", "chosen_at"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    person_id: Mapped[str] = mapped_column(ForeignKey("people.id"), index=True)
    bot: Mapped[str] = mapped_column(String(40))
    conversation_key: Mapped[str] = mapped_column(String(200))
    first_id: Mapped[str | None] = mapped_column(
        ForeignKey("completions.id", ondelete="SET NULL"), index=True
    )
    second_id: Mapped[str | None] = mapped_column(
        ForeignKey("completions.id", ondelete="SET NULL"), index=True
    )
    first_version: Mapped[int | None]
    second_version: Mapped[int | None]
    choice: Mapped[Choice | None] = mapped_column(String(16))
    created_at: Mapped[datetime] = mapped_column(default=now)
    chosen_at: Mapped[datetime | None]


class Dataset(Base):
    """What a bot was or will be trained on: files by id, and what each row came from, never the words.

    ``sources`` is a list of ``{"kind": "feedback" | "comparison", "id", "person_id", "conversation_key",
    "held_out", "learned"}``, where ``learned`` is whether it is in the training file; ``figures`` are its
    counts and the report on personal data.
    """

    __tablename__ = "datasets"

    digest: Mapped[str] = mapped_column(String(80), primary_key=True)
    bot: Mapped[str] = mapped_column(String(40), primary_key=True)
    person_id: Mapped[str] = mapped_column(ForeignKey("people.id"), index=True)
    training_file: Mapped[str] = mapped_column(String(40))
    validation_file: Mapped[str] = mapped_column(String(40))
    preference_file: Mapped[str | None] = mapped_column(String(40))
    label_file: Mapped[str | None] = mapped_column(String(40))
    sources: Mapped[list[dict[str, Any]]]
    figures: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=now)


class Retrain(Base):
    """A dataset is trained on once, whoever asks and how often: one row a bot and digest.

    ``updated_at`` is when it was claimed or last heard of, so that one who was killed can be succeeded.
    ``job_id`` of a claim is the fine-tune that failed before it.
    """

    __tablename__ = "retrains"
    __table_args__ = (UniqueConstraint("bot", "dataset_digest"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    bot: Mapped[str] = mapped_column(String(40))
    dataset_digest: Mapped[str] = mapped_column(String(80))
    job_id: Mapped[str | None] = mapped_column(String(64))
    state: Mapped[RetrainState] = mapped_column(String(16), default="claimed")
    reason: Mapped[str | None] = mapped_column(Text)
    author: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now)


class Tombstone(Base):
    """Whose words, or which conversation's, were erased; appended, and replayed after every restore."""

    __tablename__ = "tombstones"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    kind: Mapped[TombstoneKind] = mapped_column(String(16))
    subject: Mapped[str] = mapped_column(String(300))
    author: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime] = mapped_column(default=now)
