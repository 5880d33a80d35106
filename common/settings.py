"""The base of every process's settings: one typed, frozen object, read once and passed in."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from common.errors import UserError


class Settings(BaseSettings):
    """Base for a process's settings, read from the environment; names are the fields' names in capitals."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_ignore_empty=True)

    log_dir: Path | None = None
    """A folder that gets a copy of the log, for machines where nothing collects stdout."""


S = TypeVar("S", bound=BaseSettings)


def load(cls: type[S], **values: Any) -> S:
    """Read settings of type ``cls``.

    Raises:
        UserError: a value is missing, of the wrong kind or unknown; the sentence names each key.
    """
    try:
        return cls(**values)
    except ValidationError as error:
        raise UserError(explain(error.errors())) from None


def explain(problems: Sequence[ErrorDetails]) -> str:
    """One sentence for each of pydantic's problems, each naming its key."""
    return "; ".join(_sentence(problem) for problem in problems)


def _sentence(problem: ErrorDetails) -> str:
    key = ".".join(str(part) for part in problem["loc"]) or "settings"
    match problem["type"]:
        case "extra_forbidden":
            return f"{key} is not a known key: check its spelling"
        case "missing":
            return f"{key} is missing: set it"
        case "value_error":
            return f"{key}: {problem['msg'].removeprefix('Value error, ')}"
        case _:
            return f"{key} = {problem['input']!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}"
