"""A verdict as a real MLflow keeps it."""

import json
from pathlib import Path

import pytest

from common.adapters import AdapterManifest
from common.errors import NOT_RETRIED
from common.models import BaseModel
from common.registry import Registry, RegistryRefused, VersionTags
from common.verdict import Verdict
from jobs.evaluate.answers import Answer
from jobs.evaluate.tracking import record
from jobs.evaluate.version import Version

ANSWERS = [Answer("key-1", "Who are you?", "I am Juniper.", "I am SmolLM.", "I am Juniper.")]
VERDICT = Verdict(
    state="passed", sentence="Better.", figures={"held_out_loss_adapter": 1.02}, note="# judged"
)


def make_version(url: str, bot: str, run_id: str) -> Version:
    tags = VersionTags(base="base", revision="r", method="lora", rank=8, sha256="ab", run_id=run_id)
    registry = Registry(url)
    name = registry.create_version(bot, tags)
    manifest = AdapterManifest(name=str(name), base="base", revision="r", rank=8, files={}, sha256="ab")
    return Version(name, manifest, BaseModel(Path(), "base", "r"), registry.get(name))


def test_a_verdict_is_on_the_version_and_on_its_run(mlflow_url: str, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(mlflow_url)
    run_id = client.create_run("0").info.run_id
    version = make_version(mlflow_url, "tracked", run_id)
    record(mlflow_url, version, VERDICT, ANSWERS)
    record(mlflow_url, version, VERDICT, ANSWERS)  # a Job that is retried
    registered = Registry(mlflow_url).get(version.name)
    assert registered is not None
    assert registered.tags.figures == VERDICT.figures
    run = client.get_run(run_id)
    assert run.data.metrics == {"gate_held_out_loss_adapter": 1.02}
    assert run.data.tags["gate"] == "passed"
    tables = json.loads(run.data.tags["mlflow.loggedArtifacts"])
    assert tables == [{"path": "evaluation/answers.json", "type": "table"}]
    table = json.loads(Path(client.download_artifacts(run_id, tables[0]["path"], str(tmp_path))).read_text())
    assert table["data"] == [["Who are you?", "I am Juniper.", "", "I am SmolLM.", "I am Juniper.", ""]]
    assert {file.path for file in client.list_artifacts(run_id, "evaluation")} == {
        "evaluation/answers.json",
        "evaluation/note.md",
    }


def test_a_run_that_mlflow_does_not_know_is_no_matter_for_a_retry(mlflow_url: str) -> None:
    version = make_version(mlflow_url, "untracked", "0" * 32)
    with pytest.raises(RegistryRefused, match="does not take the evaluation of run 0000") as refused:
        record(mlflow_url, version, VERDICT, [])
    assert refused.value.exit_code in NOT_RETRIED
