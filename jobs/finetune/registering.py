"""The last stage: the adapter becomes a version of its bot, still ungated."""

from pathlib import Path

from common.finetune_config import FinetuneConfig
from common.models import BaseModel
from jobs.finetune.result import Result
from jobs.register import Destination, Provenance, register_adapter


def open_destination(config: FinetuneConfig) -> Destination | None:
    """Where the version will go, asked before any work; None when the adapter is to be no bot's version.

    Raises:
        RegistryUnavailable: MLflow is away.
        UserError: control is named without its token.
        StorageUnavailable: the store is away.
    """
    if not config.bot:
        return None
    token = config.control_token.get_secret_value() if config.control_token else None
    return Destination.open(config.store_url, config.mlflow_tracking_uri, config.control_url, token)


def register(config: FinetuneConfig, base: BaseModel, result: Result, to: Destination) -> str:
    """Register the result's adapter for ``config.bot``; again after a crash, it is the same version.

    Returns:
        The version's name, such as ``support-bot@7``.
    """
    assert config.bot, "there is a destination only for a bot"
    name = register_adapter(
        Path(result.adapter),
        bot=config.bot,
        base=base,
        to=to,
        provenance=_provenance(result),
        max_rank=config.max_serving_rank,
    )
    return str(name)


def _provenance(result: Result) -> Provenance:
    figures = {
        "train_loss": result.train_loss,
        "base_validation_loss": result.base_validation_loss,
        "validation_loss": result.validation_loss,
    }
    return Provenance(
        method=result.method,
        dataset_digest=result.dataset_digest,
        chat_template_hash=result.chat_template_hash,
        training_precision=result.precision,
        job_id=result.job_id,
        run_id=result.run_id,
        figures={name: value for name, value in figures.items() if value is not None},
    )
