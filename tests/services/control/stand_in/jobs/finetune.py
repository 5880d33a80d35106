"""Stand-in for ``python -m jobs.finetune``: the real configuration, registry and report; no training.

``metadata.behave`` of the job says how it goes: ``refuse`` (exit 2), ``away`` (exit 1), ``crash once``,
``wait`` (until killed).
"""

import json
import subprocess
import sys
import time
from pathlib import Path

from common.control_client import ControlClient
from common.errors import AwayError, UserError, run
from common.finetune_config import FinetuneConfig
from common.job_config import parse
from common.registry import Registry, VersionTags
from common.rows import read_rows


def main() -> None:
    config = parse(FinetuneConfig, sys.argv[1:], prog="python -m jobs.finetune")
    rows = read_rows(Path(config.data)).rows
    config.output.mkdir(exist_ok=True)
    (config.output / "config.json").write_text(config.model_dump_json())
    _behave(config)
    _train(config)
    version = _register(config)
    result = {"version": version, "trained_tokens": 100 * len(rows), "train_loss": 1.0}
    if config.leave_out:
        result["left_out"] = "1 of 2 rows to be learned from were left out: line 1 is too long."
    (config.output / "result.json").write_text(json.dumps(result))


def _behave(config: FinetuneConfig) -> None:
    how, attempts = config.metadata.get("behave", ""), config.output / "attempts"
    attempts.open("a").write("x")
    if how == "refuse":
        raise UserError("row 3 is longer than max_length: shorten it")
    if how == "away":
        raise AwayError("MLflow does not answer: start it")
    if how == "crash once" and attempts.read_text() == "x":
        raise RuntimeError("a card fell off the bus")
    if how == "wait":
        _train(config)
        subprocess.Popen(["sleep", "300"]).wait()  # a process of its own, as a data loader has


def _train(config: FinetuneConfig) -> None:
    with (config.output / "metrics.jsonl").open("w") as metrics:
        for step in (1, 2):
            line = {"step": step, "epoch": step * 0.5, "loss": 2.5 - step, "time": time.time() + step}
            metrics.write(json.dumps(line | {"learning_rate": config.learning_rate}) + "\n")


def _register(config: FinetuneConfig) -> str:
    if config.mlflow_tracking_uri == "http://127.0.0.1:9":
        return f"{config.bot}@1"
    registry = Registry(config.mlflow_tracking_uri or "")
    tags = VersionTags(
        base=config.base, revision="sha256:1", method="lora", rank=config.rank, sha256="sha256:2",
        job_id=config.job_id,
    )  # fmt: skip
    name = registry.create_version(config.bot or "", tags)
    registry.complete(name, f"file:///store/{name.folder}")
    assert config.control_token is not None
    ControlClient(config.control_url or "", config.control_token.get_secret_value()).report_version(name)
    return str(name)


if __name__ == "__main__":
    run(main)
