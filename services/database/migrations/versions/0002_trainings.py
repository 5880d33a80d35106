"""Which fine-tunes hold a card now, and until when: what a caller is told while nothing serves."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "trainings",
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("person_id", sa.String(length=40), nullable=True),
        sa.Column("until", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name="fk_trainings_person_id"),
        sa.PrimaryKeyConstraint("job_id", name="pk_trainings"),
    )
    op.create_index("ix_trainings_person_id", "trainings", ["person_id"])
