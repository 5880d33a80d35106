"""Alembic's entry point: runs the revisions on the connection that ``services.database.upgrade`` holds."""

from typing import Any, Literal

from alembic import context

from services.database.tables import Base, UtcDateTime


def _render(kind: str, value: Any, _: Any) -> str | Literal[False]:
    # A revision must not change when tables.py does: it names SQLAlchemy's own types only.
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(value, UtcDateTime) else False


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    compare_type=True,
    render_as_batch=connection.dialect.name == "sqlite",
    render_item=_render,
)
with context.begin_transaction():
    context.run_migrations()
