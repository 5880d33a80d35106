"""The loop: shadow and pinned bots, reviewed feedback, blind comparisons, datasets, retrains, tombstones."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    _add_columns()
    op.create_table(
        "comparisons",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("person_id", sa.String(length=40), nullable=False),
        sa.Column("bot", sa.String(length=40), nullable=False),
        sa.Column("conversation_key", sa.String(length=200), nullable=False),
        sa.Column("first_id", sa.String(length=64), nullable=True),
        sa.Column("second_id", sa.String(length=64), nullable=True),
        sa.Column("first_version", sa.Integer(), nullable=True),
        sa.Column("second_version", sa.Integer(), nullable=True),
        sa.Column("choice", sa.String(length=16), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("chosen_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name="fk_comparisons_person_id"),
        sa.ForeignKeyConstraint(
            ["first_id"], ["completions.id"], name="fk_comparisons_first_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["second_id"], ["completions.id"], name="fk_comparisons_second_id", ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_comparisons"),
    )
    for column in ("person_id", "first_id", "second_id"):
        op.create_index(f"ix_comparisons_{column}", "comparisons", [column])
    op.create_index("ix_comparisons_bot_chosen_at", "comparisons", ["bot", "chosen_at"])

    op.create_table(
        "datasets",
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("bot", sa.String(length=40), nullable=False),
        sa.Column("person_id", sa.String(length=40), nullable=False),
        sa.Column("training_file", sa.String(length=40), nullable=False),
        sa.Column("validation_file", sa.String(length=40), nullable=False),
        sa.Column("preference_file", sa.String(length=40), nullable=True),
        sa.Column("label_file", sa.String(length=40), nullable=True),
        sa.Column("sources", JSON, nullable=False),
        sa.Column("figures", JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name="fk_datasets_person_id"),
        sa.PrimaryKeyConstraint("digest", "bot", name="pk_datasets"),
    )
    op.create_index("ix_datasets_person_id", "datasets", ["person_id"])

    op.create_table(
        "retrains",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("bot", sa.String(length=40), nullable=False),
        sa.Column("dataset_digest", sa.String(length=80), nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("author", sa.String(length=200), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_retrains"),
        sa.UniqueConstraint("bot", "dataset_digest", name="uq_retrains_bot_dataset_digest"),
    )
    op.create_table(
        "tombstones",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("subject", sa.String(length=300), nullable=False),
        sa.Column("author", sa.String(length=200), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tombstones"),
    )


def _add_columns() -> None:
    # With a default in the database: an older image goes on writing rows without these columns.
    for table in ("bots", "decisions"):
        for column in ("shadow", "pinned"):
            op.add_column(table, sa.Column(column, sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("versions", sa.Column("erased_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("completions", sa.Column("shadow_of", sa.String(length=64), nullable=True))
    op.create_index("ix_completions_shadow_of", "completions", ["shadow_of"])
    op.create_index("ix_completions_bot_created_at", "completions", ["bot", "created_at"])
    reviewer = sa.Column(
        "reviewed_by",
        sa.String(length=40),
        sa.ForeignKey("people.id", name="fk_feedback_reviewed_by"),
        nullable=True,
    )
    op.add_column("feedback", reviewer, inline_references=True)
    op.add_column("feedback", sa.Column("reviewed_at", sa.DateTime(timezone=True), nullable=True))
