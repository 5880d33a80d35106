"""What ``python -m jobs.evaluate`` can be told."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from common.job_config import Environment, JobConfig
from common.models import default_cache_dir
from common.names import VersionName

BASE = "base"
REGRESSION = Path(__file__).resolve().parents[1] / "samples" / "regression.jsonl"


class EvaluateConfig(JobConfig):
    """Judge a registered version through the vLLM that serves it."""

    model_config = SettingsConfigDict(env_prefix="EVALUATE_")

    version: str = Field(description="the version to judge, such as support-bot@7")
    data: str | None = Field(
        None, description="held-out rows: a JSON Lines file, or its address in the store"
    )
    against: str = Field(
        "",
        description="what it must improve on: a version such as support-bot@6, or base; "
        "default: what the bot serves now, as control says, and the base where it has no version",
    )
    regression: str = Field(
        str(REGRESSION), description="rows on which nothing may get worse, as for data; 200 are shipped"
    )
    output: Path = Field(
        Path(".onggi/evaluate"), description="folder for the verdict, the note and the answers"
    )
    base: str | None = Field(
        None, description="folder of the version's base model; default: found by its name"
    )
    adapter: Path | None = Field(
        None, description="the adapter as it was trained, to compare with; the registered files where not set"
    )

    vllm_url: Annotated[str, Environment("VLLM_BASE_URL")] = Field("", description="the vLLM that serves it")
    vllm_key: Annotated[SecretStr | None, Environment("UPSTREAM_API_KEY")] = Field(
        None, description="that vLLM's API key", exclude=True, repr=False
    )
    wait: float = Field(900, ge=0, description="seconds to wait until vLLM is ready; 0 asks once")
    parallel: int = Field(8, ge=1, description="requests at a time")

    margin: float = Field(0.05, ge=0, description="nats a token that the regression set may get worse")
    minimum_conversations: int = Field(12, ge=2, description="held-out conversations that a verdict needs")
    resamples: int = Field(10_000, ge=1_000, description="bootstrap samples")
    seed: int = Field(0, ge=0, description="of the bootstrap")
    parity_rows: int = Field(8, ge=0, description="rows to compare trainer and server on; 0 leaves it out")
    answers: int = Field(16, ge=0, description="held-out questions to answer side by side")
    answer_tokens: int = Field(64, ge=1, description="longest of those answers in tokens")
    max_length: int = Field(1024, ge=8, description="longest row in tokens, as in training")
    truncate: bool = Field(False, description="drop the oldest turns of longer rows instead of refusing them")
    leave_out: bool = Field(False, description="go on without rows that cannot be used, as in training")

    store_url: Annotated[str, Environment("STORE_URL")] = Field(
        "./.onggi/store", description="object store that holds the version's files"
    )
    model_cache_dir: Annotated[Path, Environment("MODEL_CACHE_DIR")] = Field(
        default_factory=default_cache_dir, description="where jobs.download keeps models"
    )
    mlflow_tracking_uri: Annotated[str | None, Environment("MLFLOW_TRACKING_URI")] = None
    control_url: Annotated[str | None, Environment("CONTROL_URL")] = None
    control_token: Annotated[SecretStr | None, Environment("CONTROL_TOKEN")] = Field(
        None, exclude=True, repr=False
    )

    @field_validator("version")
    @classmethod
    def _is_a_version(cls, value: str) -> str:
        if VersionName.parse(value) is None:
            raise ValueError(f"{value!r} names no version: write it as support-bot@7")
        return value

    @field_validator("against")
    @classmethod
    def _is_a_version_or_the_base(cls, value: str) -> str:
        if value not in ("", BASE) and VersionName.parse(value) is None:
            raise ValueError(f"{value!r} is neither a version, such as support-bot@6, nor {BASE}")
        return value

    @property
    def name(self) -> VersionName:
        """``version``, read."""
        name = VersionName.parse(self.version)
        assert name is not None  # the validator has read it once
        return name
