"""Which version a bot serves: every decision reads the row, checks, and swaps it by its generation."""

import asyncio
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncSession

from common.names import VersionName
from common.openai_errors import OpenAIError, invalid, not_found
from services.control.context import Control
from services.control.fine_tunes import base_model
from services.control.shapes.bots import (
    Asked,
    BotCreate,
    CandidateUpdate,
    Inconclusive,
    Pin,
    Promotion,
    Rollback,
    Unpin,
)
from services.database.credentials import Caller
from services.database.queries import bots, trials, versions
from services.database.queries.bots import Author, Served
from services.database.tables import Action, Bot, Version


async def find(session: AsyncSession, name: str) -> Bot:
    """The bot called ``name``.

    Raises:
        OpenAIError: 404.
    """
    bot = await bots.get(session, name)
    if bot is None:
        raise _unknown(name)
    return bot


async def lock(session: AsyncSession, name: str) -> Bot:
    """The bot called ``name``, kept from being changed until this transaction ends; raises the same."""
    bot = await bots.lock(session, name)
    if bot is None:
        raise _unknown(name)
    return bot


async def create(control: Control, owner: Caller, request: BotCreate) -> Bot:
    """Make a bot that answers with its base.

    Raises:
        OpenAIError: 400, there is no such base here; 409, there is a bot of that name.
    """
    base, revision = request.base, ""
    if control.runner is not None:  # else the base is whatever the endpoint upstream has
        found = await asyncio.to_thread(base_model, request.base, control.settings, "base")
        base, revision = found.name, found.revision
    async with control.database.session() as session:
        if not await bots.ensure(session, request.name, owner.person_id, base, revision or None):
            raise OpenAIError(
                409, f"There is a bot {request.name!r} already.", param="name", code="bot_exists"
            )
        return await find(session, request.name)


async def promote(session: AsyncSession, author: Author, name: str, request: Promotion) -> Bot:
    """Make a version the champion; what was champion is kept as ``previous``, a trial ends.

    Raises:
        OpenAIError: 400, it may not be served; 403, a job forces it; 404; 409, another decision came first,
            or a job asks and the bot is pinned.
    """
    bot = await _decide_on(session, author, name, request)
    version = await _servable(session, bot, request.version, request.force, request.reason)
    if bot.champion == version.number:
        raise OpenAIError(409, f"{name}@{version.number} is the champion already.", code="already_champion")
    return await _swap(session, bot, _crowned(bot, version), "promote", author, request, version)


async def roll_back(session: AsyncSession, author: Author, name: str, request: Rollback) -> Bot:
    """Serve what was served before: the previous champion, or the base where there was none; a trial ends.

    Raises:
        OpenAIError: 400, there is nothing to go back to; 404; 409, as for ``promote``.
    """
    bot = await _decide_on(session, author, name, request)
    if bot.champion is None:
        raise invalid(f"{name} serves its base: there is nothing to roll back to. Promote a version instead.")
    version = None
    if bot.previous is not None:
        version = await versions.get(session, name, bot.previous)
        if version is None or version.state == "retired":
            raise invalid(f"{name}@{bot.previous} is retired: promote another version instead.")
    base, revision = (version.base, version.revision) if version else (bot.base, bot.revision)
    served = Served(base, revision, champion=bot.previous, previous=bot.champion, pinned=bot.pinned)
    return await _swap(session, bot, served, "rollback", author, request, version)


async def set_candidate(session: AsyncSession, author: Author, name: str, request: CandidateUpdate) -> Bot:
    """Begin, change or end the trial of a version beside the champion, shown to a share or in shadow.

    Raises:
        OpenAIError: 400, it may not be served; 404; 409, as for ``promote``.
    """
    bot = await _decide_on(session, author, name, request)
    if request.version is None:
        return await _swap(session, bot, _without_trial(bot), "candidate", author, request, None)
    forced = request.force or await _goes_on(session, bot, author, request)
    version = await _servable(session, bot, request.version, forced, request.reason)
    if bot.champion == version.number:
        raise invalid(f"{name}@{version.number} is the champion: try another version beside it.", "version")
    share = 0.0 if request.shadow else request.share
    trial = replace(_without_trial(bot), candidate=version.number, share=share, shadow=request.shadow)
    action: Action = "shadow" if request.shadow else "candidate"
    return await _swap(session, bot, trial, action, author, request, version)


async def pin(session: AsyncSession, author: Author, name: str, request: Pin) -> Bot:
    """Serve the champion, or the version that is named, until a person decides otherwise; a trial ends.

    Raises:
        OpenAIError: 400, it may not be served; 404; 409, as for ``promote``.
    """
    bot = await _decide_on(session, author, name, request)
    served, version = _without_trial(bot), None
    if request.version is not None:
        version = await _servable(session, bot, request.version, request.force, request.reason)
        served = served if bot.champion == version.number else _crowned(bot, version)
    return await _swap(session, bot, replace(served, pinned=True), "pin", author, request, version)


async def unpin(session: AsyncSession, author: Author, name: str, request: Unpin) -> Bot:
    """Let ``jobs.promote`` decide again.

    Raises:
        OpenAIError: 404; 409, as for ``promote``.
    """
    bot = await _decide_on(session, author, name, request)
    return await _swap(session, bot, replace(_as_it_is(bot), pinned=False), "unpin", author, request, None)


async def ask_a_person(session: AsyncSession, author: Author, name: str, request: Inconclusive) -> Bot:
    """Note that the trial is inconclusive; what is served stays.

    Raises:
        OpenAIError: 400, there is no trial; 404; 409, as for ``promote``.
    """
    bot = await _decide_on(session, author, name, request)
    if bot.candidate is None:
        raise invalid(f"{name} tries no version: there is nothing to be inconclusive about.")
    return await _swap(session, bot, _as_it_is(bot), "inconclusive", author, request, None)


async def _decide_on(session: AsyncSession, author: Author, name: str, request: Asked) -> Bot:
    """The bot, locked, if it is as the caller saw it and the author may decide."""
    bot = await lock(session, name)
    if bot.generation != request.generation:
        raise _conflict(bot)
    if author.person_id is None:
        _check_job(bot, request)
    return bot


def _check_job(bot: Bot, request: Asked) -> None:
    """A job decides on what people said alone: not against the gate, nor on what a person has settled."""
    forced = isinstance(request, Promotion | CandidateUpdate) and request.force
    if forced or isinstance(request, Pin | Unpin):
        raise OpenAIError(403, "Only an owner pins, unpins, or serves a version that has not passed.")
    if bot.pinned:
        raise OpenAIError(409, f"{bot.name} is pinned: only a person changes what is served.", code="pinned")


async def _goes_on(session: AsyncSession, bot: Bot, author: Author, request: CandidateUpdate) -> bool:
    """Whether a job opens a share, not all, to the very candidate that a person put in shadow.

    Who forces a trial wants to see how the version does with people: the next step is within what they asked
    for. Everybody is not, nor is another version.
    """
    if author.person_id is not None or not bot.shadow or request.shadow or request.share >= 1:
        return False
    if request.version is None or _number(bot.name, request.version) != bot.candidate:
        return False
    return (await trials.decisions(session, bot))[-1].person_id is not None


def _as_it_is(bot: Bot) -> Served:
    return Served(
        bot.base, bot.revision, bot.champion, bot.previous, bot.candidate, bot.share, bot.shadow, bot.pinned
    )


def _without_trial(bot: Bot) -> Served:
    return replace(_as_it_is(bot), candidate=None, share=0.0, shadow=False)


def _crowned(bot: Bot, version: Version) -> Served:
    """``version`` as champion, and no trial."""
    return Served(
        version.base, version.revision, champion=version.number, previous=bot.champion, pinned=bot.pinned
    )


async def _swap(
    session: AsyncSession,
    bot: Bot,
    served: Served,
    action: Action,
    author: Author,
    request: Asked,
    version: Version | None,
) -> Bot:
    figures = request.figures or (version.figures if version else None)
    won = await bots.swap(
        session, bot.name, bot.generation, served, action, author, reason=request.reason, figures=figures
    )
    now = await find(session, bot.name)
    if not won:
        raise _conflict(now)
    return now


def _unknown(name: str) -> OpenAIError:
    return not_found(f"No bot {name!r}: a fine-tuning job with this suffix makes it.", "bot")


def _conflict(bot: Bot) -> OpenAIError:
    return OpenAIError(
        409,
        f"{bot.name} is at generation {bot.generation} now: another decision came first. "
        f"Look at GET /onggi/v1/bots/{bot.name} and decide again with that generation.",
        param="generation",
        code="generation_conflict",
    )


async def _servable(
    session: AsyncSession, bot: Bot, asked: int | str, force: bool, reason: str | None
) -> Version:
    """The version; that the bot's row is locked keeps it from being retired meanwhile."""
    number = _number(bot.name, asked)
    version = await versions.get(session, bot.name, number)
    if version is None:
        raise not_found(f"No version {bot.name}@{number}: see GET /onggi/v1/versions.", "version")
    if version.state == "retired":
        raise invalid(f"{bot.name}@{number} is retired: its files go. Promote another version.", "version")
    if version.state != "passed" and not (force and reason):
        said = f" ({version.sentence})" if version.sentence else ""
        raise invalid(
            f"{bot.name}@{number} is {version.state}, not passed{said}. To serve it all the same, "
            "send force: true and the reason.",
            "force" if reason else "reason",
            "not_passed",
        )
    return version


def _number(bot: str, asked: int | str) -> int:
    if isinstance(asked, int):
        return asked
    name = VersionName.parse(asked)
    if name is None or name.bot != bot:
        raise invalid(f"{asked!r} is no version of {bot}: send its number, or {bot}@<number>.", "version")
    return name.number
