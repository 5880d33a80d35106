"""A fine-tune's configuration: what ``python -m jobs.finetune`` reads and what control writes for its runner.

Values come from flags, ``FINETUNE_*`` and a YAML file (``jobs/recipes`` holds some). What the pinned vLLM
could not serve is refused here, before anything heavy is imported.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from common.job_config import Environment, JobConfig
from common.models import default_cache_dir
from common.names import BOT_PATTERN

# What vLLM 0.32's --max-lora-rank can be; an adapter may have any rank up to it.
SERVING_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)

# Where a run happens and what it is called, which change nothing about the weights it ends with. Base and
# data are compared by revision and digest instead of by name.
NOT_TRAINING = frozenset(
    {"bot", "base", "data", "validation", "output", "restart", "checkpoint_every", "job_id", "metadata"}
    | {"peer_timeout"}
    | {"max_serving_rank", "use_dora", "bias", "modules_to_save", "model_cache_dir"}
    | {"store_url", "checkpoint_store", "mlflow_tracking_uri", "control_url", "control_token"}
)


class FinetuneConfig(JobConfig):
    """Fine-tune a LoRA adapter on chat rows."""

    model_config = SettingsConfigDict(env_prefix="FINETUNE_")

    bot: str | None = Field(
        None, pattern=BOT_PATTERN, description="register the adapter as this bot's version"
    )
    base: str = Field(description="base model: a name from jobs.download, a hub id or a folder")
    data: str = Field(description="training rows: a JSON Lines file, or its address in the store")
    validation: str | None = Field(None, description="rows to measure the loss on, before and after")
    output: Path = Field(description="folder for the adapter, metrics, result and checkpoints")
    restart: bool = Field(False, description="throw away what an earlier run left in the output")

    method: Literal["lora", "qlora"] = Field("lora", description="qlora keeps the base in 4 bits (NF4)")
    rank: int = Field(16, ge=1, description="rank of the adapter")
    alpha: float = Field(32, gt=0, description="the adapter is scaled by alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the adapter's input")
    target_modules: str = Field("all-linear", description="all-linear, or names such as q_proj,v_proj")
    rslora: bool = Field(False, description="scale by alpha / sqrt(rank) instead")

    epochs: float = Field(3.0, gt=0, description="passes over the rows")
    max_steps: int | None = Field(None, ge=1, description="stop after so many steps")
    batch_size: int = Field(8, ge=1, description="rows at once on the device")
    gradient_accumulation: int = Field(1, ge=1, description="batches for one step of the optimizer")
    learning_rate: float = Field(2e-4, gt=0, description="peak of the schedule")
    warmup_fraction: float = Field(0.05, ge=0, lt=1, description="share of the steps that warm up linearly")
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are clipped to this norm")
    max_length: int = Field(1024, ge=8, description="longest row in tokens")
    truncate: bool = Field(False, description="drop the oldest turns of longer rows instead of refusing them")
    leave_out: bool = Field(
        False, description="go on without rows that are too long or hold control tokens, and say which"
    )
    seed: int = Field(0, ge=0)
    precision: Literal["auto", "bf16", "fp32"] = Field("auto", description="of the base and of the compute")
    checkpoint_every: int = Field(50, ge=1, description="steps between checkpoints")
    peer_timeout: int = Field(
        600, ge=1, description="seconds that processes which train together wait for each other"
    )

    job_id: str | None = Field(None, description="the fine-tuning job this run belongs to")
    metadata: dict[str, str] = Field(default_factory=dict, description="kept with the result")

    max_serving_rank: int = Field(64, description="the --max-lora-rank of the vLLM that will serve this")
    use_dora: bool = Field(False, description="refused: vLLM cannot serve DoRA")
    bias: str = Field("none", description="refused unless none: vLLM cannot serve trained biases")
    modules_to_save: list[str] = Field(default_factory=list, description="refused: vLLM cannot serve them")

    model_cache_dir: Annotated[Path, Environment("MODEL_CACHE_DIR")] = Field(
        default_factory=default_cache_dir, description="where jobs.download keeps models"
    )
    store_url: Annotated[str, Environment("STORE_URL")] = Field(
        "./.onggi/store", description="object store that registered adapters go to"
    )
    checkpoint_store: str | None = Field(
        None, description="object store that checkpoints are copied to as well"
    )
    mlflow_tracking_uri: Annotated[str | None, Environment("MLFLOW_TRACKING_URI")] = None
    control_url: Annotated[str | None, Environment("CONTROL_URL")] = None
    control_token: Annotated[SecretStr | None, Environment("CONTROL_TOKEN")] = Field(
        None, exclude=True, repr=False
    )

    @field_validator("target_modules", mode="before")
    @classmethod
    def _join_names(cls, value: Any) -> Any:
        return ",".join(map(str, value)) if isinstance(value, list) else value

    @field_validator("max_serving_rank")
    @classmethod
    def _known_to_vllm(cls, value: int) -> int:
        if value not in SERVING_RANKS:
            raise ValueError(f"vLLM's --max-lora-rank is one of {', '.join(map(str, SERVING_RANKS))}")
        return value

    @field_validator("use_dora")
    @classmethod
    def _no_dora(cls, value: bool) -> bool:
        if value:
            raise ValueError(
                "vLLM cannot serve DoRA adapters (vllm#10849): leave it out, or set rslora: true"
            )
        return value

    @field_validator("bias")
    @classmethod
    def _no_bias(cls, value: str) -> str:
        if value != "none":
            raise ValueError("vLLM cannot serve adapters with trained biases: leave it out")
        return value

    @field_validator("modules_to_save")
    @classmethod
    def _no_whole_modules(cls, value: list[str]) -> list[str]:
        if value:
            raise ValueError(
                "vLLM cannot serve whole trained modules (vllm#9280): leave it out, "
                "or raise rank to give the adapter more room"
            )
        return value

    @model_validator(mode="after")
    def _servable_rank(self) -> Self:
        if self.rank > self.max_serving_rank:
            raise ValueError(
                f"rank {self.rank} is above max_serving_rank {self.max_serving_rank}, which vLLM serves "
                "with: lower rank, or raise both (the chart's vllm.maxLoraRank is the other)"
            )
        return self

    @model_validator(mode="after")
    def _registry_for_bot(self) -> Self:
        if self.bot and not self.mlflow_tracking_uri:
            raise ValueError(
                f"bot {self.bot} needs a registry: set MLFLOW_TRACKING_URI, or leave bot out to keep the "
                "adapter in the output folder only"
            )
        return self

    @property
    def targets(self) -> str | list[str]:
        """The modules that get an adapter, as PEFT wants them."""
        names = [name.strip() for name in self.target_modules.split(",") if name.strip()]
        return names[0] if names == ["all-linear"] else names

    def training_values(self) -> dict[str, Any]:
        """The values that decide the final weights; a run is resumed only with the same ones."""
        return self.model_dump(mode="json", exclude=set(NOT_TRAINING))
