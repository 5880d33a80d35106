"""Fine-tuning jobs in OpenAI's form, as the ``openai`` SDK sends and reads them.

https://platform.openai.com/docs/api-reference/fine-tuning
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints

from services.control.shapes.base import Given

Auto = Literal["auto"]
MetadataKey = Annotated[str, StringConstraints(max_length=64)]
MetadataValue = Annotated[str, StringConstraints(max_length=512)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)]
Status = Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]


class Hyperparameters(Given):
    """Numbers, or ``auto`` for the recipe's."""

    n_epochs: Auto | Annotated[float, Field(gt=0, le=50)] = "auto"
    batch_size: Auto | Annotated[int, Field(ge=1, le=256)] = "auto"
    learning_rate_multiplier: Auto | Annotated[float, Field(gt=0, le=100)] = "auto"


class Supervised(Given):
    """The settings of method ``supervised``."""

    hyperparameters: Hyperparameters = Hyperparameters()


class Method(Given):
    """How to learn; of the three that the SDK knows, ``supervised`` is supported."""

    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: Supervised | None = None
    dpo: dict[str, Any] | None = None
    reinforcement: dict[str, Any] | None = None


class OnggiOptions(Given):
    """What OpenAI's form has no place for; sent as ``extra_body={"onggi": {...}}``."""

    rank: int | None = Field(default=None, ge=1)
    quantization: Literal["nf4"] | None = Field(
        default=None, description="nf4 keeps the base in 4 bits (QLoRA)"
    )
    max_length: int | None = Field(default=None, ge=8)
    leave_out: bool | None = Field(
        default=None,
        description="go on without rows that are too long or hold control tokens; an event says which",
    )
    node_class: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9][a-z0-9._-]*$",
        description="the kind of card, such as rtx5090; where none is named, the smallest that fits",
    )
    recipe: str | None = Field(
        default=None, pattern=r"^[a-z0-9][a-z0-9._-]*$", description="a file of jobs/recipes"
    )


class JobCreate(Given):
    """A request for a fine-tune. ``suffix`` is the bot that gets the new version."""

    model: str
    training_file: str
    suffix: str | None = None
    validation_file: str | None = None
    hyperparameters: Hyperparameters | None = None
    method: Method | None = None
    seed: int | None = Field(default=None, ge=0, lt=2**31)
    metadata: Metadata | None = None
    integrations: list[dict[str, Any]] | None = None
    onggi: OnggiOptions = OnggiOptions()


class ShownError(BaseModel):
    """Why a job failed."""

    code: str
    message: str
    param: str | None = None


class JobPublic(BaseModel):
    """A ``fine_tuning.job``; times are whole seconds since the epoch."""

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    error: ShownError | None
    fine_tuned_model: str | None
    finished_at: int | None
    hyperparameters: dict[str, Any]
    model: str
    organization_id: str = "onggi"
    result_files: list[str]
    seed: int
    status: Status
    trained_tokens: int | None
    training_file: str
    validation_file: str | None
    estimated_finish: int | None
    integrations: list[Any] = []
    metadata: dict[str, str] | None
    method: dict[str, Any]
    suffix: str


class EventPublic(BaseModel):
    """A ``fine_tuning.job.event``."""

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    data: dict[str, Any] | None
    type: Literal["message", "metrics"]


class CheckpointPublic(BaseModel):
    """A ``fine_tuning.job.checkpoint``; its name can be called, so only a registered version is one."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    metrics: dict[str, float]
    step_number: int
