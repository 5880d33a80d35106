"""Bots, versions and decisions."""

from typing import Any, Literal

from pydantic import Field, computed_field

from common.names import BOT_PATTERN
from services.control.shapes.base import Figures, Given, Name, Seconds, Shown, Text
from services.database.tables import Action, VersionState


class BotPublic(Shown):
    """What a bot's name serves: version numbers; without a champion its base answers."""

    object: Literal["bot"] = "bot"
    name: str
    base: str
    revision: str | None
    champion: int | None
    previous: int | None
    candidate: int | None
    share: float
    shadow: bool = Field(description="the candidate answers too, and is not shown")
    pinned: bool = Field(description="only a person changes what is served")
    generation: int
    created_at: Seconds


class BotCreate(Given):
    """A bot that answers with its base until a version of it is promoted."""

    name: str = Field(pattern=BOT_PATTERN)
    base: Name


class DecisionPublic(Shown):
    """What a bot's row became at a generation, by whom, why and on which figures."""

    object: Literal["decision"] = "decision"
    id: str
    bot: str
    generation: int
    action: Action
    champion: int | None
    previous: int | None
    candidate: int | None
    share: float
    shadow: bool
    pinned: bool
    figures: dict[str, Any] | None
    reason: str | None
    author: str
    created_at: Seconds


class VersionPublic(Shown):
    """A version, where it came from, and what the gate says of it."""

    object: Literal["version"] = "version"
    bot: str
    number: int
    base: str
    revision: str
    rank: int
    sha256: str
    state: VersionState
    method: str | None
    run_id: str | None
    job_id: str | None
    dataset_digest: str | None
    figures: dict[str, Any] | None
    sentence: str | None
    note: str | None
    created_at: Seconds
    erased_at: Seconds | None = Field(description="when words that it was trained on were erased")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def name(self) -> str:
        """What callers ask for: ``support-bot@7``."""
        return f"{self.bot}@{self.number}"


class Asked(Given):
    """A decision that is asked for.

    ``generation`` is the bot's as the caller saw it; another decision since then is a conflict.
    """

    generation: int = Field(ge=0)
    reason: Text | None = None
    figures: Figures | None = Field(None, description="what it is decided on; default: the version's own")


class Promotion(Asked):
    """Make a version the champion. ``force`` serves one that did not pass, and needs a ``reason``."""

    version: int | str = Field(description="7 or support-bot@7")
    force: bool = False


class Rollback(Asked):
    """Go back to what was served before."""


class CandidateUpdate(Asked):
    """Give a version a share of the traffic beside the champion; ``version`` null ends the trial."""

    version: int | str | None = Field(description="7, support-bot@7 or null")
    share: float = Field(default=0.1, ge=0, le=1)
    shadow: bool = Field(
        False, description="let it answer what the champion answers, unseen; without a share"
    )
    force: bool = False


class Pin(Asked):
    """Serve one version until it is unpinned: the champion, or the one that is named; a trial ends."""

    version: int | str | None = Field(None, description="7, support-bot@7, or null: what is served now")
    force: bool = False


class Unpin(Asked):
    """Let what people say decide again."""


class Inconclusive(Asked):
    """The trial goes on, but whether it promotes is a person's to decide: they are asked."""
