"""MLflow: the figures on the version and on its run, with the note and the answers side by side."""

import json
import time
from collections.abc import Sequence
from typing import Any

from common.registry import Registry, limit_patience, taking
from common.verdict import Verdict
from jobs.evaluate.answers import Answer
from jobs.evaluate.version import Version

TABLE = {"path": "evaluation/answers.json", "type": "table"}


def record(tracking_uri: str, version: Version, verdict: Verdict, answers: Sequence[Answer]) -> None:
    """Write ``verdict`` to the version's tags, and to its run where it has one.

    Raises:
        RegistryUnavailable, RegistryRefused.
    """
    Registry(tracking_uri).record_verdict(version.name, verdict)
    run_id = version.registered.tags.run_id if version.registered else None
    if run_id:
        _record_on_run(tracking_uri, run_id, verdict, answers)


def _record_on_run(tracking_uri: str, run_id: str, verdict: Verdict, answers: Sequence[Answer]) -> None:
    limit_patience(retries=2, seconds=20)
    from mlflow import MlflowClient
    from mlflow.entities import Metric, RunTag

    now = round(time.time() * 1000)
    client = MlflowClient(tracking_uri=tracking_uri)
    with taking(tracking_uri, f"the evaluation of run {run_id}"):
        client.log_batch(
            run_id,
            metrics=[Metric(f"gate_{name}", value, now, 0) for name, value in verdict.figures.items()],
            tags=[RunTag("gate", verdict.state), RunTag("mlflow.loggedArtifacts", json.dumps([TABLE]))],
        )
        client.log_text(run_id, verdict.note, "evaluation/note.md")
        # As MLflow's log_table writes it, which would append to what a first attempt of this job has left.
        client.log_dict(run_id, _table(answers), TABLE["path"])


def _table(answers: Sequence[Answer]) -> dict[str, list[Any]]:
    columns = ["question", "expected", "rejected", "served", "adapter", "outcome"]
    return {
        "columns": columns,
        "data": [[getattr(answer, column) for column in columns] for answer in answers],
    }
