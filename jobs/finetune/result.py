"""``result.json``: what a run ended with. Written last: where it is, the run is done."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from jobs.finetune.files import replace_durably


@dataclass(frozen=True)
class Result:
    """What came out of a run."""

    adapter: str
    """The adapter's folder."""
    base: str
    base_revision: str
    method: str
    rank: int
    precision: str
    dataset_digest: str
    chat_template_hash: str
    identity: dict[str, Any]
    """What a rerun must share to be the same run (``inputs.Identity``)."""
    steps: int
    train_loss: float
    """Mean nats per supervised token over the last epoch."""
    base_validation_loss: float | None
    """The base's, before training; None without validation rows."""
    validation_loss: float | None
    trained_tokens: int
    """Tokens of all rows that steps went over, as OpenAI counts them."""
    supervised_tokens: int
    tokens_per_second: float
    job_id: str | None
    metadata: dict[str, str]
    run_id: str | None
    """MLflow's, where there is one."""
    left_out: str = ""
    """Which rows were left out and why, in a sentence."""
    version: str | None = None
    """The registered version, such as ``support-bot@7``."""

    def registered(self, version: str) -> "Result":
        """The same result with its version's name."""
        return replace(self, version=version)


def read_result(path: Path) -> Result | None:
    """The result at ``path``; None when there is none yet."""
    try:
        return Result(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None


def write_result(path: Path, result: Result) -> None:
    """Write it in one step."""
    replace_durably(path, (json.dumps(asdict(result), indent=2) + "\n").encode())
