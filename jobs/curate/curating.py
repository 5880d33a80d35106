"""The stages of a dataset: read what people said, draft rows, build files of them, log the dataset."""

from common import logging
from common.control_client import ControlClient
from common.errors import UserError
from jobs.curate import tracking
from jobs.curate.config import CurateOptions
from jobs.curate.dataset import Curated, build
from jobs.curate.examples import draft, read, sides
from jobs.curate.personal import Scrubber


def connect(options: CurateOptions) -> ControlClient:
    """Control, as ``options`` name it.

    Raises:
        UserError: they do not.
    """
    missing = [
        name
        for name, given in (
            ("CONTROL_URL", options.control_url),
            ("CONTROL_TOKEN", options.control_token.get_secret_value()),
        )
        if not given
    ]
    if missing:
        raise UserError(f"{' and '.join(missing)} missing: people's words are read through control's API")
    return ControlClient(options.control_url, options.control_token.get_secret_value())


def curate(control: ControlClient, bot: str, options: CurateOptions) -> Curated:
    """The whole current dataset of ``bot``, logged in MLflow where there is one.

    Raises:
        ControlUnavailable, RegistryUnavailable: one of them is away.
        TooLittle: nothing is left to train on, or to judge on.
    """
    examples = read(control, bot, unreviewed=options.unreviewed)
    curated = build(draft(examples), Scrubber(options.keep, options.phone_regions), sides(control, bot))
    logging.get("system").info(
        "curated", bot=bot, examples=len(examples), digest=curated.digest, **curated.figures
    )
    if options.mlflow_tracking_uri:
        tracking.record(options.mlflow_tracking_uri, bot, curated)
    return curated
