"""What hangs together, by id: answers, versions, datasets, ratings."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.database.tables import Comparison, Completion, Dataset, Feedback, Version

AT_ONCE = 500  # ids in one statement


async def feedback_on(session: AsyncSession, completion_id: str) -> Sequence[Feedback]:
    """What was said of an answer."""
    rows = select(Feedback).where(Feedback.completion_id == completion_id)
    return (await session.scalars(rows.order_by(Feedback.created_at, Feedback.id))).all()


async def comparisons_with(session: AsyncSession, completion_id: str) -> Sequence[Comparison]:
    """The comparisons in which an answer was shown."""
    either = or_(Comparison.first_id == completion_id, Comparison.second_id == completion_id)
    return (await session.scalars(select(Comparison).where(either).order_by(Comparison.created_at))).all()


async def shadows_of(session: AsyncSession, completion_id: str) -> Sequence[Completion]:
    """What candidates in shadow said in an answer's place."""
    rows = select(Completion).where(Completion.shadow_of == completion_id)
    return (await session.scalars(rows.order_by(Completion.created_at))).all()


async def datasets_of(session: AsyncSession, bot: str | None, rating_id: str) -> list[Dataset]:
    """The datasets, of ``bot`` or (None) of any, that have a row from this rating; the oldest first."""
    rows = select(Dataset).order_by(Dataset.created_at)
    found = await session.scalars(rows if bot is None else rows.where(Dataset.bot == bot))
    return [row for row in found if any(source["id"] == rating_id for source in row.sources)]


async def datasets(session: AsyncSession, digest: str) -> Sequence[Dataset]:
    """The dataset of this digest; of several bots, where they learned the same."""
    rows = select(Dataset).where(Dataset.digest == digest).order_by(Dataset.bot)
    return (await session.scalars(rows)).all()


async def versions_of(session: AsyncSession, digest: str, bot: str | None = None) -> Sequence[Version]:
    """The versions that were trained on a dataset."""
    rows = select(Version).where(Version.dataset_digest == digest).order_by(Version.bot, Version.number)
    return (await session.scalars(rows if bot is None else rows.where(Version.bot == bot))).all()


async def version_by(session: AsyncSession, name: str) -> Version | None:
    """The version that fine-tune or run ``name`` made."""
    rows = select(Version).where(or_(Version.job_id == name, Version.run_id == name))
    return (await session.scalars(rows.order_by(Version.number.desc()).limit(1))).first()


async def answers_of(
    session: AsyncSession, version: Version, person_id: str | None, limit: int
) -> tuple[Sequence[str], int]:
    """The last ``limit`` answers of a version that were kept, to one person or (None) to all; and how many
    it gave, kept or not, to everybody. A failed one is none.
    """
    by = (
        Completion.bot == version.bot,
        Completion.version == version.number,
        Completion.status != "failed",
    )
    rows = select(Completion.id).where(*by, Completion.stored, *_theirs(person_id))
    newest = rows.order_by(Completion.created_at.desc(), Completion.id).limit(limit)
    count = await session.scalar(select(func.count()).select_from(Completion).where(*by))
    return (await session.scalars(newest)).all(), int(count or 0)


async def existing(session: AsyncSession, ids: Sequence[str]) -> dict[str, str | None]:
    """Those of these ratings that are still there, each with the answer that it is about."""
    found: dict[str, str | None] = {}
    for start in range(0, len(ids), AT_ONCE):
        some = ids[start : start + AT_ONCE]
        said = select(Feedback.id, Feedback.completion_id).where(Feedback.id.in_(some))
        chosen = select(Comparison.id, Comparison.first_id).where(Comparison.id.in_(some))
        for query in (said, chosen):
            found |= dict((await session.execute(query)).tuples().all())
    return found


def _theirs(person_id: str | None) -> tuple[ColumnElement[bool], ...]:
    return () if person_id is None else (Completion.person_id == person_id,)
