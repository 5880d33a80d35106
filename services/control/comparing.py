"""Blind comparisons: which two answers may be compared, by whom, and once."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from common.openai_errors import OpenAIError, invalid, not_found
from services.control.serving import find
from services.control.shapes.comparisons import ComparisonCreate
from services.database.credentials import Caller
from services.database.queries import comparisons
from services.database.tables import Bot, Choice, Comparison, Completion


async def begin(session: AsyncSession, caller: Caller, request: ComparisonCreate) -> Comparison:
    """Note that the caller was shown two answers; the same two again are the same comparison.

    Raises:
        OpenAIError: 400, they cannot be compared; 404, they are not the caller's, or there is no such bot.
    """
    bot = await find(session, request.bot)
    first, second = [await _answer(session, caller, bot, id_) for id_ in request.completions]
    if first.version == second.version:
        raise invalid("Both answers are of one version: compare two.", "completions")
    if _asked(first) != _asked(second):
        message = "The two completions do not answer one message: send the same messages to both versions."
        raise invalid(message, "completions")
    known = await comparisons.of_pair(session, first.id, second.id)
    return known or await comparisons.add(session, caller.person_id, bot.name, first, second)


async def choose(session: AsyncSession, caller: Caller, comparison_id: str, choice: Choice) -> Comparison:
    """Write down which answer the caller takes; a choice stands.

    Raises:
        OpenAIError: 404; 409, another choice was made before.
    """
    row = await comparisons.lock(session, comparison_id)
    if row is None or row.person_id != caller.person_id:
        raise not_found(f"No comparison {comparison_id!r} of yours.", "id")
    if row.choice is None:
        await comparisons.choose(session, row, choice)
    elif row.choice != choice:
        raise OpenAIError(409, f"You chose {row.choice} here before, and a choice stands.", param="choice")
    return row


async def _answer(session: AsyncSession, caller: Caller, bot: Bot, completion_id: str) -> Completion:
    row = await session.get(Completion, completion_id)
    if row is None or row.person_id != caller.person_id or row.shadow_of is not None:
        raise not_found(f"No completion {completion_id!r} of yours.", "completions")
    if row.bot != bot.name and not (row.bot is None and row.model == bot.base):
        raise invalid(f"{completion_id} is not by {bot.name} or its base {bot.base}.", "completions")
    if not row.stored or row.status != "done":
        raise invalid(
            f"{completion_id} is not a whole, stored answer: ask both with store: true.", "completions"
        )
    return row


def _asked(row: Completion) -> tuple[str, Sequence[object] | None]:
    return row.conversation_key, row.messages
