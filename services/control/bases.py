"""The base models that this installation serves: what a fine-tune may start from, and where pods fetch it."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from common.errors import UserError
from common.models import local_name


class Base(BaseModel):
    """A base model: the name it is served by, what jobs.download takes, and the revision that is served."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    source: str
    revision: str = ""
    max_rank: int | None = None
    """The largest rank of an adapter that its servers take."""


def find_base(name: str, bases: Sequence[Base]) -> Base:
    """The base called ``name``, which may also be its hub id.

    Raises:
        UserError: this installation serves none of that name.
    """
    for base in bases:
        if name in (base.name, base.source):
            return base
    served = ", ".join(base.name for base in bases) or "none"
    raise UserError(
        f"model {name!r} is not served here, and an adapter needs its base: this installation serves "
        f"{served} (the chart's vllm.servers){_near(name, bases)}"
    )


def _near(name: str, bases: Sequence[Base]) -> str:
    alike = [base for base in bases if local_name(base.source) == local_name(name)]
    return f"; {alike[0].name} is {alike[0].source}" if alike else ""
