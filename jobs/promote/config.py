"""What ``python -m jobs.promote`` can be told."""

from typing import Annotated

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from common.job_config import Environment, JobConfig
from common.names import BOT_PATTERN


class PromoteConfig(JobConfig):
    """Decide on what people think of a candidate whether everybody gets it."""

    model_config = SettingsConfigDict(env_prefix="PROMOTE_")

    bot: str | None = Field(None, pattern=BOT_PATTERN, description="the bot to decide on; default: every bot")
    share: float = Field(
        0.5, gt=0, lt=1, description="part of the conversations that a new version gets; 0.5 decides soonest"
    )
    days: float = Field(14, gt=0, description="days of a trial after which a person is asked")
    shadow: int = Field(
        0, ge=0, description="answers to compare unseen before a new version is shown to anybody"
    )
    dry_run: bool = Field(False, description="say what would be decided, and decide nothing")

    control_url: Annotated[str, Environment("CONTROL_URL")] = Field(description="where control is")
    control_token: Annotated[SecretStr, Environment("CONTROL_TOKEN")] = Field(
        SecretStr(""), description="what jobs show to control", exclude=True, repr=False
    )
