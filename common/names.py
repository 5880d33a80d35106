"""Names: a bot is ``support-bot``; one immutable version of it, to callers and vLLM, ``support-bot@7``."""

import re
from dataclasses import dataclass

from common.errors import UserError

BOT_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"
LARGEST_NUMBER = 2**31 - 1  # PostgreSQL's integer

_BOT = re.compile(BOT_PATTERN.removesuffix("$") + r"\Z")
_NUMBER = re.compile(r"[1-9][0-9]{0,9}\Z", re.ASCII)


def is_bot_name(text: str) -> bool:
    """Whether ``text`` can name a bot: 1 to 40 of ``a-z 0-9 -``, a letter or digit at both ends."""
    return _BOT.match(text) is not None


def check_bot_name(text: str) -> str:
    """``text`` itself.

    Raises:
        UserError: it cannot name a bot.
    """
    if is_bot_name(text):
        return text
    raise UserError(
        f"bot {text!r} is not a name: use 1 to 40 lower-case letters, digits and hyphens, "
        "with a letter or a digit at both ends, such as support-bot"
    )


@dataclass(frozen=True, order=True)
class VersionName:
    """One version of one bot; ``str()`` gives ``support-bot@7``."""

    bot: str
    number: int

    def __post_init__(self) -> None:
        if not is_bot_name(self.bot) or not 1 <= self.number <= LARGEST_NUMBER:
            raise ValueError(f"{self.bot!r} and {self.number!r} do not make a version's name")

    def __str__(self) -> str:
        return f"{self.bot}@{self.number}"

    @classmethod
    def parse(cls, text: str) -> "VersionName | None":
        """Read ``support-bot@7``; None when ``text`` is anything else (a bot, a base model, ``bot@07``)."""
        bot, at, number = text.partition("@")
        if not at or not is_bot_name(bot) or not _NUMBER.match(number) or int(number) > LARGEST_NUMBER:
            return None
        return cls(bot, int(number))

    @property
    def folder(self) -> str:
        """Where this version's files lie in the object store: ``adapters/support-bot/7``."""
        return f"adapters/{self.bot}/{self.number}"
