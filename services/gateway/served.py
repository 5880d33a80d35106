"""What is served now, kept in memory and polled: which name goes to which model upstream."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from common import logging
from common.names import VersionName
from common.openai_errors import OpenAIError, not_found, unavailable
from services.database.away import DATABASE_ERRORS, describe
from services.database.engine import Database
from services.database.queries import served as queries
from services.database.queries import trainings
from services.database.tables import Arm
from services.gateway.opening import ServedBot, open_up
from services.gateway.replica import Wanted
from services.gateway.upstream import Upstream
from services.gateway.warmup import State

POLL_SECONDS = 1.0
READ_SECONDS = 3.0


@dataclass(frozen=True)
class Target:
    """Where a request goes: the model's name upstream, and which bot's version, by which arm, that is.

    ``base`` is the model that the version belongs to; None where ``model`` is a base itself.
    """

    model: str
    arm: Arm
    bot: str | None = None
    version: int | None = None
    base: str | None = None

    def wanted(self, key: str) -> Wanted:
        """What conversation ``key`` needs of a replica to be answered so."""
        return Wanted(self.model, self.base or self.model, key)


@dataclass(frozen=True)
class ServedVersion:
    """A version that may be called."""

    name: VersionName
    base: str
    created_at: datetime


@dataclass(frozen=True)
class Snapshot:
    """The served rows at one moment."""

    bots: Mapping[str, ServedBot] = field(default_factory=dict)
    versions: Mapping[VersionName, ServedVersion] = field(default_factory=dict)

    def target(self, model: str, key: str) -> Target | None:
        """Where ``model`` (a bot, or a version) goes for conversation ``key``; None when it is neither."""
        if (name := VersionName.parse(model)) is not None:
            version = self.versions.get(name)
            return Target(str(name), "pinned", name.bot, name.number, version.base) if version else None
        bot = self.bots.get(model)
        return self._draw(bot, key) if bot else None

    def _draw(self, bot: ServedBot, key: str) -> Target:
        number = bot.draw(key)
        version = self.versions.get(VersionName(bot.name, number)) if number is not None else None
        if version is None:
            return Target(bot.base, "base", bot.name)
        arm: Arm = "candidate" if number == bot.candidate else "champion"
        return Target(str(version.name), arm, bot.name, number, version.base)

    def shadow(self, shown: Target) -> Target | None:
        """Where what ``shown`` answered goes once more, unseen: to its bot's candidate in shadow."""
        bot = self.bots.get(shown.bot or "")
        if bot is None or not bot.shadow or bot.candidate is None or shown.arm not in ("champion", "base"):
            return None
        version = self.versions.get(VersionName(bot.name, bot.candidate))
        return Target(str(version.name), "shadow", bot.name, bot.candidate, version.base) if version else None

    def traffic(self) -> dict[str, str]:
        """The versions that champion and candidate of every bot name, each with its base."""
        named = (
            self.versions.get(VersionName(bot.name, number))
            for bot in self.bots.values()
            for number in (bot.champion, bot.candidate)
            if number is not None
        )
        return {str(version.name): version.base for version in named if version}

    def bases(self) -> set[str]:
        """The base models that bots and versions are made of."""
        of_bots = {bot.base for bot in self.bots.values()}
        return of_bots | {version.base for version in self.versions.values()}

    def opened(self, last: "Snapshot", state: Callable[[str, str], State]) -> "Snapshot":
        """What of this is in effect, where ``last`` was before; ``state`` says how far a version is."""
        bots = {
            name: open_up(bot, last.bots.get(name), *self._of(bot, state)) for name, bot in self.bots.items()
        }
        return Snapshot(bots, self.versions)

    def _of(
        self, bot: ServedBot, state: Callable[[str, str], State]
    ) -> tuple[Callable[[int], State], set[int]]:
        """How far a version of ``bot`` is, by its number; and the numbers that may be called."""
        bases = {name.number: version.base for name, version in self.versions.items() if name.bot == bot.name}
        return lambda number: state(f"{bot.name}@{number}", bases.get(number, bot.base)), set(bases)


class Served:
    """Polls the served rows, and goes on with the last ones seen while the database is away.

    ``snapshot`` is what is in effect: the rows, as far as the replicas can answer so. ``database_answers``
    says whether the last poll succeeded: while it does not, nothing new is begun.
    """

    def __init__(self, database: Database, upstream: Upstream, default_model: str | None) -> None:
        self._database = database
        self._upstream = upstream
        self._default_model = default_model
        self._polling: asyncio.Task[None] | None = None
        self._refreshing = asyncio.Lock()
        self._log = logging.get("system")
        self._rows = Snapshot()
        self.snapshot = Snapshot()
        self.database_answers = False

    async def start(self) -> None:
        """Read once, then go on polling."""
        await self.refresh()
        self._polling = asyncio.create_task(self._poll(), name="served")

    async def stop(self) -> None:
        """Stop polling."""
        if self._polling:
            self._polling.cancel()
            await asyncio.gather(self._polling, return_exceptions=True)

    async def refresh(self) -> bool:
        """Read the rows now; False, and the last ones stay, when the database is away."""
        async with self._refreshing:
            try:
                async with asyncio.timeout(READ_SECONDS):
                    self._rows = await self._read()
            except DATABASE_ERRORS as error:
                if self.database_answers:
                    self._log.warning("database away", reason=describe(error))
                self.database_answers = False
            else:
                self.database_answers = True
                self._upstream.serve({**self.snapshot.traffic(), **self._rows.traffic()})
                self.open_up()
        return self.database_answers

    def open_up(self) -> None:
        """Put into effect what can be answered by now."""
        before, self.snapshot = self.snapshot, self._rows.opened(self.snapshot, self._upstream.state)
        for name, bot in self.snapshot.bots.items():
            last = before.bots.get(name)
            if last and (last.champion, last.candidate) != (bot.champion, bot.candidate):
                self._log.info("served", bot=name, champion=bot.champion, candidate=bot.candidate)

    async def resolve(self, model: str, key: str) -> Target:
        """Where ``model`` goes; the database and the upstream are asked once more before a 404.

        Raises:
            OpenAIError: 404 ``model_not_found``; 503 when only a server that is away could tell.
        """
        target = self.snapshot.target(model, key) or await self._base(model)
        if target is None:
            if not await self.refresh():
                raise unavailable(
                    "The database, which would know this model, is away: try again in a moment."
                )
            target = self.snapshot.target(model, key) or await self._base(model, fresh=True)
        if target is None:
            raise unknown_model(model)
        return target

    async def _base(self, model: str, *, fresh: bool = False) -> Target | None:
        """The base model called ``model``; only a ``fresh`` look raises when the upstream is away."""
        if model == self._default_model or model in self.snapshot.bases():
            return Target(model, "base")
        if VersionName.parse(model) is not None:
            return None
        try:
            models = await self._upstream.models(fresh=fresh)
        except OpenAIError:
            if fresh:
                raise
            return None
        return Target(model, "base") if any(listed.get("id") == model for listed in models) else None

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await self.refresh()

    async def _read(self) -> Snapshot:
        async with self._database.read() as session:
            bots = [
                ServedBot(
                    row.name,
                    row.base,
                    row.champion,
                    row.candidate,
                    row.share,
                    row.created_at,
                    row.previous,
                    row.shadow,
                )
                for row in await queries.bots(session)
            ]
            versions = [
                ServedVersion(VersionName(row.bot, row.number), row.base, row.created_at)
                for row in await queries.versions(session)
            ]
            self._upstream.free_at = await trainings.ends(session)
        return Snapshot({bot.name: bot for bot in bots}, {version.name: version for version in versions})


def unknown_model(model: str) -> OpenAIError:
    """The 404 that OpenAI's API gives for a model that does not exist."""
    shown = model[:100]
    return not_found(
        f"The model `{shown}` does not exist or is retired. GET /v1/models lists what there is.",
        "model",
        "model_not_found",
    )
