"""What a version must improve on: what its bot serves now."""

from dataclasses import dataclass

from common.control_client import ControlClient, ControlRefused, ControlUnavailable
from common.names import VersionName
from common.storage import Store
from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.version import Version, read_files
from jobs.evaluate.vllm_client import Away


@dataclass(frozen=True)
class Reference:
    """The model that the version is compared with, by its name in vLLM, and what a sentence calls it."""

    model: str
    words: str


def find_reference(config: EvaluateConfig, version: Version, store: Store) -> Reference:
    """What ``config`` names, else what control says is served, else the base.

    Losses a token of another base cannot be compared, so a bot that changes its base is held to the new one.

    Raises:
        UserError: the version that ``config`` names has no files.
        Away: control or the store does not answer.
    """
    base = version.base.name
    served = VersionName.parse(config.against) if config.against else champion(config)
    if served is None or served == version.name:
        return Reference(base, "the base")
    manifest = read_files(served, store)
    if (manifest.base, manifest.revision) != (version.manifest.base, version.manifest.revision):
        return Reference(base, f"the base (what {served} says is another base's)")
    return Reference(str(served), str(served))


def champion(config: EvaluateConfig) -> VersionName | None:
    """The version that the bot serves; None where it serves its base, or nobody can say.

    Raises:
        Away: control does not answer.
    """
    client = open_control(config)
    if client is None:
        return None
    try:
        return client.champion(config.name.bot)
    except ControlRefused as refused:
        if refused.status == 404:  # a version that was registered by hand, before control knew its bot
            return None
        raise
    except ControlUnavailable as error:
        raise Away(str(error)) from None


def open_control(config: EvaluateConfig) -> ControlClient | None:
    """A client of control; None where none is configured."""
    if not config.control_url:
        return None
    return ControlClient(
        config.control_url, config.control_token.get_secret_value() if config.control_token else ""
    )
