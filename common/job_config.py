"""A job's configuration: one class, read from a YAML file, the environment and flags.

    class PrepareConfig(JobConfig):
        '''Make a dataset.'''

        model_config = SettingsConfigDict(env_prefix="PREPARE_")
        input: CliPositionalArg[Path] = Field(description="the file to read")
        held_out: float = Field(0.2, description="share held out")
        store_url: Annotated[str, Environment("STORE_URL")] = "./.onggi/store"

    config = parse(PrepareConfig, sys.argv[1:], prog="python -m jobs.prepare")

Flags (``--held-out 0.1``, or ``--held_out``) win over the environment (``PREPARE_HELD_OUT``), which wins
over the file (``--config job.yaml`` with ``held_out: 0.1``). A key that is not a field is an error in each.
"""

import argparse
import difflib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, CliSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError
from pydantic_settings.sources import EnvSettingsSource

from common.errors import UserError
from common.settings import explain


@dataclass(frozen=True)
class Environment:
    """Marks a field that is also read from the variable ``name``, which other processes share (STORE_URL).

    The job's own prefixed variable wins over the shared one.
    """

    name: str


class JobConfig(BaseSettings):
    """Base of a job's configuration; subclasses set ``env_prefix``. Made directly, it reads nothing else."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_ignore_empty=True,
        env_parse_none_str="null",
        cli_parse_none_str="null",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Values come from the caller only: ``parse`` reads the sources itself, to name the one at fault."""
        return (init_settings,)


C = TypeVar("C", bound=JobConfig)
Values = dict[str, Any]


def parse(cls: type[C], argv: Sequence[str], *, prog: str) -> C:
    """Read ``cls`` from flags ``argv``, the environment and the file that ``--config`` names.

    Raises:
        UserError: an unknown key, or a missing or wrong value; the sentence names the file, variable or flag.
        SystemExit: ``--help`` was asked for, and printed.
    """
    file, argv = _take_config([_kebab(word) for word in argv], prog)
    flags = _from_flags(cls, argv, prog)
    layers = [
        (str(file), load_yaml(cls, file) if file else {}),
        ("environment", _from_environment(cls)),
        ("flags", flags),
    ]
    values = {key: value for _, layer in layers for key, value in layer.items()}
    places = {key: place for place, layer in layers for key in layer}
    try:
        return cls(**values)
    except ValidationError as error:
        raise UserError("; ".join(_explain(problem, places, prog) for problem in error.errors())) from None


def load_yaml(cls: type[JobConfig], path: Path) -> Values:
    """The mapping in the YAML file at ``path``, each key a field of ``cls``.

    Raises:
        UserError: the file is missing, not YAML, not a mapping, or has an unknown key.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): give --config an existing file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold keys and values (key: value), not a {type(content).__name__}")
    _refuse_unknown(map(str, content), cls.model_fields, str(path))
    return content


def _take_config(argv: list[str], prog: str) -> tuple[Path | None, list[str]]:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config", type=Path)
    try:
        taken, rest = parser.parse_known_args(argv)
    except argparse.ArgumentError as error:
        raise UserError(f"{prog}: {error}: see {prog} --help") from None
    return taken.config, rest


def _kebab(word: str) -> str:
    """``--held_out=a_b`` as ``--held-out=a_b``; anything that is no flag as it is."""
    if not word.startswith("--"):
        return word
    flag, equals, value = word.partition("=")
    return flag.replace("_", "-") + equals + value


def _from_flags(cls: type[JobConfig], argv: list[str], prog: str) -> Values:
    source: CliSettingsSource[Any] = CliSettingsSource(
        cls,
        cli_prog_name=prog,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_avoid_json=True,
        cli_hide_none_type=True,
        cli_exit_on_error=False,
        add_argument_method=_add_argument,
    )
    parser: argparse.ArgumentParser = source.root_parser
    parser.add_argument("--config", metavar="FILE", default=argparse.SUPPRESS, help="YAML file of keys")
    parser.epilog = (
        f"Every option is also a key of FILE (with _ for -) and a variable of the environment "
        f"({cls.model_config['env_prefix']}...). Flags win over the environment, which wins over FILE."
    )
    try:
        return source(args=argv)()
    except SettingsError as error:
        reason = str(error).removeprefix("error parsing CLI: ")
        raise UserError(f"{prog}: {reason}: see {prog} --help") from None


def _add_argument(parser: argparse.ArgumentParser, *names: str, **options: Any) -> argparse.Action:
    """Positional arguments may be left out of the command line, for the file may hold them."""
    if names and not names[0].startswith("-") and "nargs" not in options:
        options |= {"nargs": "?", "default": argparse.SUPPRESS}
    return parser.add_argument(*names, **options)


def _from_environment(cls: type[JobConfig]) -> Values:
    prefix = str(cls.model_config["env_prefix"])
    given = [name.removeprefix(prefix).lower() for name in os.environ if name.startswith(prefix)]
    _refuse_unknown(given, cls.model_fields, f"environment ({prefix}...)")
    try:
        return _shared_variables(cls) | EnvSettingsSource(cls)()
    except SettingsError as error:
        raise UserError(f"environment ({prefix}...): {error}") from None


def _shared_variables(cls: type[JobConfig]) -> Values:
    return {
        field: os.environ[mark.name]
        for field, info in cls.model_fields.items()
        for mark in info.metadata
        if isinstance(mark, Environment) and os.environ.get(mark.name)
    }


def _refuse_unknown(keys: Iterable[str], known: Iterable[str], place: str) -> None:
    known = sorted(known)
    unknown = sorted(set(keys) - set(known))
    if unknown:
        raise UserError("; ".join(f"{place}: {key} is not a known key{_hint(key, known)}" for key in unknown))


def _hint(key: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    return f": did you mean {near[0]}?" if near else f": the keys are {', '.join(known)}"


def _explain(problem: ErrorDetails, places: dict[str, str], prog: str) -> str:
    key = str(problem["loc"][0]) if problem["loc"] else ""
    return f"{places.get(key, prog)}: {explain([problem])}"
