"""What ``python -m jobs.curate`` can be told; ``jobs.retrain`` takes the same and more."""

from typing import Annotated

from pydantic import Field, SecretStr

from common.job_config import Environment, JobConfig
from jobs.curate.personal import REGIONS


class CurateOptions(JobConfig):
    """Where what people said comes from, and what becomes of it."""

    control_url: Annotated[str, Environment("CONTROL_URL")] = Field("", description="where control answers")
    control_token: Annotated[SecretStr, Environment("CONTROL_TOKEN")] = Field(
        SecretStr(""), description="the token that jobs show it", exclude=True, repr=False
    )
    mlflow_tracking_uri: Annotated[str, Environment("MLFLOW_TRACKING_URI")] = Field(
        "", description="where the dataset is logged, by digest and counts; empty: nowhere"
    )
    unreviewed: bool = Field(False, description="learn also from what no owner has looked at yet")
    keep: tuple[str, ...] = Field((), description="texts that are no personal data, such as a hotline")
    phone_regions: tuple[str, ...] = Field(
        REGIONS, description="countries whose phone numbers are found without their code"
    )
