"""What control knows of a version: what it must improve on, and whose words it learned from."""

from dataclasses import dataclass
from typing import Any

from common.control_client import ControlClient, ControlRefused
from common.names import VersionName
from common.storage import Store
from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.version import Version, read_files


@dataclass(frozen=True)
class Reference:
    """The model that the version is compared with, by its name in vLLM, and what a sentence calls it."""

    model: str
    words: str


def find_reference(config: EvaluateConfig, version: Version, store: Store) -> Reference:
    """What ``config`` names, else what control says is served, else the base.

    Losses a token of another base cannot be compared, so a bot that changes its base is held to the new one.
    And a version that learned from words that were erased since must go, also for one that learned from less.

    Raises:
        UserError: the version that ``config`` names has no files.
        AwayError: control or the store does not answer.
    """
    base = version.base.name
    served = VersionName.parse(config.against) if config.against else champion(config)
    if served is None or served == version.name:
        return Reference(base, "the base")
    if is_erased(config, served):
        return Reference(base, f"the base ({served} learned from words that were erased)")
    manifest = read_files(served, store)
    if (manifest.base, manifest.revision) != (version.manifest.base, version.manifest.revision):
        return Reference(base, f"the base (what {served} says is another base's)")
    return Reference(str(served), str(served))


def champion(config: EvaluateConfig) -> VersionName | None:
    """The version that the bot serves; None where it serves its base, or nobody can say.

    Raises:
        AwayError: control does not answer.
    """
    number = _ask(config, f"/onggi/v1/bots/{config.name.bot}").get("champion")
    return None if number is None else VersionName(config.name.bot, number)


def is_erased(config: EvaluateConfig, served: VersionName) -> bool:
    """Whether ``served`` learned from words that were erased since, as far as control knows.

    Raises:
        AwayError: control does not answer.
    """
    return _ask(config, f"/onggi/v1/versions/{served}").get("erased_at") is not None


def dataset(config: EvaluateConfig, version: Version) -> dict[str, Any]:
    """What control says of the rows that ``version`` learned from; nothing where people rated none.

    Raises:
        AwayError: control does not answer.
    """
    digest = version.registered.tags.dataset_digest if version.registered else None
    return _ask(config, f"/onggi/v1/datasets/{digest}", bot=config.name.bot) if digest else {}


def _ask(config: EvaluateConfig, path: str, **query: str) -> dict[str, Any]:
    """What control says; nothing where there is no control, or it knows nothing of what is asked for."""
    client = open_control(config)
    if client is None:
        return {}
    try:
        return client.get(path, **query)
    except ControlRefused as refused:
        if refused.status == 404:  # registered by hand, before control knew the bot
            return {}
        raise


def open_control(config: EvaluateConfig) -> ControlClient | None:
    """A client of control; None where none is configured."""
    if not config.control_url:
        return None
    return ControlClient(
        config.control_url, config.control_token.get_secret_value() if config.control_token else ""
    )
