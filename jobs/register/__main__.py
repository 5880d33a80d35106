"""``python -m jobs.register``: see the package."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from common import errors, logging
from common.adapters import CONFIG
from common.errors import AwayError, UserError
from common.job_config import Environment, JobConfig, parse
from common.models import BaseModel, default_cache_dir, local_name, resolve
from common.names import BOT_PATTERN
from common.storage import StorageUnavailable
from jobs.register import Destination, Provenance, checks, register_adapter


class RegisterConfig(JobConfig):
    """Register a LoRA adapter, made here or elsewhere, as a bot's next version."""

    model_config = SettingsConfigDict(env_prefix="REGISTER_")

    adapter: Path = Field(description="folder with adapter_model.safetensors and adapter_config.json")
    bot: str = Field(pattern=BOT_PATTERN, description="the bot whose next version it becomes")
    base: str | None = Field(
        None,
        description="base model: a name from jobs.download, a hub id or a folder; default: the adapter's",
    )
    method: Literal["lora", "qlora"] = Field("lora", description="how it was trained")
    dataset_digest: str | None = Field(None, description="sha256:... of the rows it was trained on")
    job_id: str | None = Field(None, description="the fine-tuning job it came from")
    run_id: str | None = Field(None, description="the MLflow run it came from")
    max_serving_rank: Annotated[int, Environment("MAX_SERVING_RANK")] = Field(
        64, description="the --max-lora-rank of the vLLM that will serve it"
    )
    model_cache_dir: Annotated[Path, Environment("MODEL_CACHE_DIR")] = Field(
        default_factory=default_cache_dir, description="where jobs.download keeps models"
    )
    store_url: Annotated[str, Environment("STORE_URL")] = Field(
        "./.onggi/store", description="object store that the files go to"
    )
    mlflow_tracking_uri: Annotated[str | None, Environment("MLFLOW_TRACKING_URI")] = None
    control_url: Annotated[str | None, Environment("CONTROL_URL")] = None
    control_token: Annotated[SecretStr | None, Environment("CONTROL_TOKEN")] = Field(
        None, exclude=True, repr=False
    )


def main() -> None:
    """Register the adapter that the flags, the environment or the file name, and print the version."""
    logging.configure("jobs", stream=sys.stderr)
    config = parse(RegisterConfig, sys.argv[1:], prog="python -m jobs.register")
    base = find_base(config)
    provenance = Provenance(
        method=config.method,
        dataset_digest=config.dataset_digest,
        job_id=config.job_id,
        run_id=config.run_id,
    )
    token = config.control_token.get_secret_value() if config.control_token else None
    try:
        to = Destination.open(config.store_url, config.mlflow_tracking_uri, config.control_url, token)
        name = register_adapter(
            config.adapter,
            bot=config.bot,
            base=base,
            to=to,
            provenance=provenance,
            max_rank=config.max_serving_rank,
        )
    except StorageUnavailable as error:
        raise AwayError(f"{error}: check STORE_URL and try again") from None
    print(f"{name} is registered, ungated: {to.store.uri(name.folder)}")


def find_base(config: RegisterConfig) -> BaseModel:
    """The base that the flag names, else the one the adapter names; the two must not contradict."""
    path = config.adapter / CONFIG
    named = str(checks.read_config(config.adapter).get("base_model_name_or_path") or "")
    if not config.base and not named:
        raise UserError(f"{path} names no base model: give --base")
    # The adapter may name a folder of the machine it was trained on; its last part is the model's name.
    base = resolve(config.base or local_name(named), config.model_cache_dir)
    if named and local_name(named) != base.name:
        raise UserError(
            f"{path} says that the adapter was trained on {named}, not on {base.name}: give --base {named}, "
            "or correct base_model_name_or_path there if that is only a folder's name"
        )
    return base


if __name__ == "__main__":
    errors.run(main)
