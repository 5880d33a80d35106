"""The images of a release to come: today's, with one migration more."""

import tempfile
from pathlib import Path

from images.catalog import Build
from images.engine import Buildah, storage
from images.make import ensure
from services.database.upgrade import head
from tests.cluster.place import REGISTRY

MIGRATED = ("gateway", "control")
REVISION = "9999"
DOCKERFILE = """FROM localhost/onggi-{component}:{tag}
COPY next_release.py /app/services/database/migrations/versions/
"""
MIGRATION = """
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "{revision}", "{head}", None, None


def upgrade() -> None:
    op.add_column("people", sa.Column("next_release", sa.String(20), nullable=True))
"""


def build(tags: dict[str, str]) -> dict[str, str]:
    """Build and push them upon today's images, whose tags by content are ``tags``; the tag of each."""
    return {component: _build(component, tags[component]) for component in MIGRATED}


def _build(component: str, tag: str) -> str:
    buildah = Buildah(storage())
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        context = Path(folder)
        (context / "Dockerfile").write_text(DOCKERFILE.format(component=component, tag=tag))
        migration = MIGRATION.format(revision=REVISION, head=head())
        (context / "next_release.py").write_text(migration)
        image = Build(f"next-{component}", context / "Dockerfile", context)
        ensure(buildah, image)
    buildah.push(image.reference, f"{REGISTRY}/onggi-{component}:next-{image.content}")
    return f"next-{image.content}"
