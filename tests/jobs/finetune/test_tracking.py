"""MLflow gets a copy of a run; away at the start it is a mistake, later it is not."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.finetune_config import FinetuneConfig
from common.names import VersionName
from common.registry import Registry
from jobs.finetune.inputs import Sources, read_sources
from jobs.finetune.metrics import StepMetrics
from jobs.finetune.result import read_result
from jobs.finetune.tracking import MlflowTracker, open_tracker
from tests.jobs.finetune.processes import Jobs
from tests.ports import free_port

STEP = StepMetrics(1, 0.1, 3.5, 1e-4, 0.9, 400, 200, 550.0, None, 1_800_000_000.0)


@pytest.fixture
def flags(tiny_base: Path, data: Path, tmp_path: Path) -> list[str]:
    return [
        "--base",
        str(tiny_base),
        "--data",
        str(data),
        "--output",
        str(tmp_path / "out"),
        "--max-steps",
        "3",
    ]


def test_a_run_with_a_bot_is_in_mlflow_with_all_it_came_from_and_becomes_one_version(
    flags: list[str], jobs: Jobs, mlflow_url: str, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    store = tmp_path / "store"
    environ = {"MLFLOW_TRACKING_URI": mlflow_url, "STORE_URL": str(store)}
    for _ in range(2):
        ended = jobs.run(tmp_path, *flags, "--bot", "finetune-test", "--job-id", "ftjob-7", **environ)
        assert ended.code == 0, ended.stderr
    result = read_result(tmp_path / "out" / "result.json")
    assert result is not None
    assert result.version == "finetune-test@1"
    [version] = Registry(mlflow_url).list("finetune-test")
    assert version.name == VersionName("finetune-test", 1)
    assert (version.tags.run_id, version.tags.job_id) == (result.run_id, "ftjob-7")
    assert version.tags.dataset_digest == result.dataset_digest
    assert (store / "adapters/finetune-test/1/adapter_model.safetensors").is_file()

    client = MlflowClient(mlflow_url)
    assert result.run_id is not None
    run = client.get_run(result.run_id)
    assert run.info.status == "FINISHED"
    assert (run.data.params["rank"], run.data.params["rows"]) == ("16", "30")
    assert run.data.tags["dataset_digest"] == result.dataset_digest
    assert run.data.metrics["train_loss"] == pytest.approx(result.train_loss)
    assert [metric.step for metric in client.get_metric_history(result.run_id, "loss")] == [1, 2, 3]
    assert run.inputs.dataset_inputs[0].dataset.digest == result.dataset_digest.removeprefix("sha256:")[:36]
    artifacts = {artifact.path for artifact in client.list_artifacts(result.run_id)}
    assert artifacts == {"metrics.jsonl", "adapter_config.json", "README.md", "config.json"}


def test_mlflow_away_at_the_start_is_said_in_seconds_and_leaves_nothing(
    flags: list[str], jobs: Jobs, tmp_path: Path
) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    began = time.monotonic()
    ended = jobs.run(tmp_path, *flags, MLFLOW_TRACKING_URI=address)
    assert ended.code == 1, "another try may find it there"
    assert f"MLflow at {address} does not answer" in ended.stderr
    assert "MLFLOW_TRACKING_URI" in ended.stderr
    assert time.monotonic() - began < 30
    assert not (tmp_path / "out").exists()


class CuttableLine:
    """A client whose network can be cut (a fake at the edge: the server itself stays up)."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.cut = False

    def __getattr__(self, name: str) -> Any:
        if self.cut:
            raise ConnectionError("the network is cut")
        return getattr(self._client, name)


@pytest.fixture
def sources(tiny_base: Path, data: Path, tmp_path: Path, mlflow_url: str) -> tuple[FinetuneConfig, Sources]:
    config = FinetuneConfig(
        base=str(tiny_base), data=str(data), output=tmp_path / "out", mlflow_tracking_uri=mlflow_url
    )
    return config, read_sources(config, world_size=1)


def test_what_mlflow_missed_while_it_was_away_is_sent_when_it_is_back(
    sources: tuple[FinetuneConfig, Sources], mlflow_url: str, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(mlflow_url)
    run_id = open_tracker(*sources, tmp_path / "run").run_id
    assert run_id is not None
    line = CuttableLine(client)
    steps = [replace(STEP, step=step) for step in (1, 2, 3)]
    tracker = MlflowTracker(line, run_id, seconds_between=0)
    tracker.send(steps[:1])
    line.cut = True
    tracker.send(steps[:2])
    line.cut = False
    tracker.send(steps)
    again = MlflowTracker(client, run_id, seconds_between=0)  # a later process sends all it finds
    again.send(steps)
    assert [metric.step for metric in client.get_metric_history(run_id, "loss")] == [1, 2, 3]


def test_a_resumed_process_goes_on_in_the_same_run(
    sources: tuple[FinetuneConfig, Sources], tmp_path: Path
) -> None:
    first = open_tracker(*sources, tmp_path / "run")
    assert open_tracker(*sources, tmp_path / "run").run_id == first.run_id
    assert (tmp_path / "run").read_text() == first.run_id
