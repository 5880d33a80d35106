"""What ``python -m jobs.retrain`` can be told."""

from datetime import datetime, time
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from jobs.curate.config import CurateOptions


class RetrainConfig(CurateOptions):
    """Train a bot on what people said about its answers, when it is due."""

    model_config = SettingsConfigDict(env_prefix="RETRAIN_")

    bot: str = Field("", description="which bot; default: every bot, one after the other")
    minimum: int | None = Field(
        None, ge=1, description="new reviewed corrections that make it due; default: what control says, 60"
    )
    recipe: str | None = Field(None, description="a file of jobs/recipes; default: control's defaults")
    quiet_hours: str = Field(
        "", description="when it may begin, such as 22:00-06:00, for training may take the served card"
    )
    timezone: str = Field("UTC", description="of the quiet hours, such as Asia/Seoul")
    gpu_hours: float | None = Field(
        None, gt=0, description="no more begins once this month's fine-tunes took so many GPU-hours"
    )
    force: bool = Field(
        False, description="begin whatever minimum, quiet hours and budget say, and again after a failure"
    )
    dry_run: bool = Field(False, description="say what would be done, and do nothing")
    author: str = Field("jobs.retrain", description="who is told to have asked for it")

    @field_validator("quiet_hours")
    @classmethod
    def _two_times(cls, text: str) -> str:
        if text:
            _times(text)
        return text

    @field_validator("timezone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"{name!r} is no time zone: give one such as Asia/Seoul") from None
        return name

    def is_quiet(self, moment: datetime) -> bool:
        """Whether a retrain may begin at ``moment``, which is aware."""
        if not self.quiet_hours:
            return True
        begin, end = _times(self.quiet_hours)
        now = moment.astimezone(ZoneInfo(self.timezone)).time()
        return begin <= now < end if begin <= end else now >= begin or now < end


def _times(text: str) -> tuple[time, time]:
    begin, dash, end = text.partition("-")
    try:
        if not dash:
            raise ValueError
        return time.fromisoformat(begin.strip()), time.fromisoformat(end.strip())
    except ValueError:
        raise ValueError(f"{text!r} is no span of time: give one such as 22:00-06:00") from None
