"""What a person first said of an answer, and when: a trial's evidence is made of that."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("feedback", sa.Column("first_rating", sa.Integer(), nullable=True))
    op.add_column("feedback", sa.Column("rated_at", sa.DateTime(timezone=True), nullable=True))
    # What was said first is not known of older rows: what they say now stands for it.
    op.execute(
        "UPDATE feedback SET first_rating = COALESCE(rating, -1), rated_at = created_at "
        "WHERE rating IS NOT NULL OR correction IS NOT NULL"
    )
