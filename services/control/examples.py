"""What may be learned from, in pages over opinions and blind choices; and what waits to be looked at."""

from datetime import UTC

from sqlalchemy.ext.asyncio import AsyncSession

from services.control.shapes.loop import ComparisonExample, ExamplePage, FeedbackExample
from services.database.queries import examples
from services.database.queries.examples import Cursor


async def page(
    session: AsyncSession, bot: str, after: Cursor | None, limit: int, *, unreviewed: bool
) -> ExamplePage:
    """Up to ``limit`` examples changed after the cursor; what changes while it is read comes again."""
    more = limit + 1
    said = await examples.said(session, bot, after=after, limit=more, unreviewed=unreviewed)
    chosen = await examples.chosen(session, bot, after=after, limit=more)
    dated: list[tuple[Cursor, FeedbackExample | ComparisonExample]] = []
    dated += [((row.feedback.updated_at, row.feedback.id), FeedbackExample.of(row)) for row in said]
    for choice in chosen:
        assert choice.comparison.chosen_at is not None
        dated.append(((choice.comparison.chosen_at, choice.comparison.id), ComparisonExample.of(choice)))
    dated.sort(key=lambda pair: pair[0])
    shown = dated[:limit]
    following = _cursor(shown[-1][0]) if shown else _cursor(after) if after else None
    return ExamplePage(data=[example for _, example in shown], has_more=len(dated) > limit, next=following)


def _cursor(place: Cursor) -> str:
    moment, row_id = place
    return f"{moment.astimezone(UTC).isoformat()}~{row_id}"
