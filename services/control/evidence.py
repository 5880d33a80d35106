"""What a bot's trial has shown: put together for ``jobs.promote``, and for whoever wants to see it."""

import hashlib
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from common.evidence import (
    AnswerFigures,
    Arm,
    BlindChoice,
    Evidence,
    RatedConversation,
    ShadowPair,
    TrialConversation,
)
from services.control.serving import find
from services.database.queries import trials
from services.database.tables import Bot, Comparison, now


async def gather(session: AsyncSession, name: str, limit: int) -> Evidence:
    """The evidence on bot ``name``, with the first ``limit`` conversations of its trial.

    Raises:
        OpenAIError: 404.
    """
    bot = await find(session, name)
    made = await trials.decisions(session, bot)
    began_at = made[-1].created_at if made else None
    evidence = Evidence(
        bot=bot.name,
        generation=bot.generation,
        champion=bot.champion,
        candidate=bot.candidate,
        share=bot.share,
        shadow=bot.shadow,
        pinned=bot.pinned,
        untried=await trials.untried(session, bot),
        erased=list(await trials.erased(session, bot)),
        began_at=began_at.timestamp() if began_at else None,
        now=now().timestamp(),
        passed=await trials.passed(session, bot),
        asked_at=next((one.created_at.timestamp() for one in made if one.action == "inconclusive"), None),
    )
    if began_at is not None:
        await _fill(session, bot, began_at, limit, evidence)
    return evidence


async def _fill(session: AsyncSession, bot: Bot, began_at: datetime, limit: int, evidence: Evidence) -> None:
    evidence.ratings = _rated(bot, await trials.ratings(session, bot, began_at))
    evidence.choices = _chosen(bot, await trials.choices(session, bot, began_at))
    talks = await trials.conversations(session, bot, began_at, limit)
    evidence.conversations = [_conversation(bot, talk) for talk in talks]
    if bot.shadow:
        pairs = await trials.shadows(session, bot, began_at, limit)
        evidence.shadows = [_shadow(pair) for pair in pairs]
    evidence.full = len(evidence.answers) >= limit


def _rated(bot: Bot, rows: Any) -> list[RatedConversation]:
    """One for each conversation: what was said of it first."""
    first = {(row.asked_by, row.conversation_key): row for row in reversed(rows)}
    return [
        RatedConversation(
            person=_pseudonym(bot, row.person_id),
            arm=_arm(bot, row.version),
            liked=row.first_rating == 1,
            at=row.rated_at.timestamp(),
        )
        for row in rows
        if first[row.asked_by, row.conversation_key] is row
    ]


def _chosen(bot: Bot, rows: Any) -> list[BlindChoice]:
    """One for each conversation: the first."""
    first = {(row.person_id, row.conversation_key): row for row in reversed(rows)}
    return [_choice(bot, row) for row in rows if first[row.person_id, row.conversation_key] is row]


def _choice(bot: Bot, row: Comparison) -> BlindChoice:
    versions = {"first": row.first_version, "second": row.second_version}
    chosen = "tie" if row.choice == "tie" else _arm(bot, versions[str(row.choice)])
    assert row.chosen_at is not None  # written with the choice
    return BlindChoice(person=_pseudonym(bot, row.person_id), chosen=chosen, at=row.chosen_at.timestamp())


def _conversation(bot: Bot, row: Any) -> TrialConversation:
    return TrialConversation(
        person=_pseudonym(bot, row.person_id),
        arm=_arm(bot, row.version),
        at=row.ended_at.timestamp(),
        failed=row.failures > 0,
        ttft_ms=row.ttft_ms,
        tokens=row.completion_tokens if row.status == "done" else None,
    )


def _shadow(row: Any) -> ShadowPair:
    shown = AnswerFigures(failed=row.shown_failed, ttft_ms=None, tokens=row.shown_tokens)
    candidate = AnswerFigures(failed=row.failed, ttft_ms=None, tokens=row.tokens)
    return ShadowPair(shown=shown, candidate=candidate, at=row.ended_at.timestamp())


def _arm(bot: Bot, version: int | None) -> Arm:
    return "candidate" if version == bot.candidate else "champion"


def _pseudonym(bot: Bot, person_id: str) -> str:
    """Tells people of one trial apart, and nothing else: ids are random, so this cannot be turned back."""
    return hashlib.sha256(f"{bot.name}\0{bot.candidate}\0{person_id}".encode()).hexdigest()[:16]
