"""Which conversations of a bot are learned from and which are held out: once on a side, there for ever."""

from sqlalchemy.ext.asyncio import AsyncSession

from common.openai_errors import OpenAIError
from services.control import serving
from services.control.shapes.loop import DatasetCreate, Sides
from services.database.queries import sides


async def show(session: AsyncSession, bot: str) -> Sides:
    """What the datasets of ``bot`` had on each side so far.

    Raises:
        OpenAIError: 404.
    """
    await serving.find(session, bot)
    recorded = await sides.recorded(session, bot)
    return Sides(
        bot=bot,
        learned=sorted(key for key, held_out in recorded.items() if not held_out),
        held_out=sorted(key for key, held_out in recorded.items() if held_out),
    )


async def check(session: AsyncSession, request: DatasetCreate) -> None:
    """Refuse a dataset that was made before another one was recorded, and disagrees with it.

    The bot's row is locked until the session ends, so that of two at once the later sees the earlier.

    Raises:
        OpenAIError: 409.
    """
    await serving.lock(session, request.bot)
    recorded = await sides.recorded(session, request.bot)
    moved = {
        source.conversation_key
        for source in request.sources
        if recorded.get(source.conversation_key, source.held_out) != source.held_out
    }
    if moved:
        message = f"{len(moved)} of these conversations are on the other side of an earlier dataset"
        raise OpenAIError(409, f"{message}: make it anew.", param="sources", code="recorded_otherwise")
