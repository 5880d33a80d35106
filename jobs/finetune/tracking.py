"""MLflow: a run's parameters, data, metrics and small files. It is a copy; training never waits for it.

At the start it must answer, so that a mistake shows before any work. Later it may be away: the metrics are in
``metrics.jsonl``, and what it missed is sent when it answers again, at the latest when the run ends. Sending
a line twice changes nothing, for a metric's key, step and time are its identity there.
"""

import logging
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from common.errors import AwayError, UserError, is_passing
from common.finetune_config import FinetuneConfig
from common.registry import limit_patience, taking
from jobs.finetune.inputs import Sources
from jobs.finetune.metrics import StepMetrics
from jobs.finetune.result import Result

SEND_EVERY_S = 5.0
BACK_OFF = 6  # so many times less often while MLflow is away, for each call may take its time-out
_BATCH = 200  # steps; MLflow takes 1,000 metrics at once, and a step has up to five

_log = logging.getLogger(__name__)


class Tracker(Protocol):
    """Where a run is recorded besides its own folder."""

    run_id: str | None

    def send(self, steps: Sequence[StepMetrics]) -> None:
        """Send those of all ``steps`` so far that were not sent, if it is time to."""

    def finish(self, steps: Sequence[StepMetrics], result: Result, files: Sequence[Path]) -> None:
        """Send all that is left, the result's figures and ``files``, and close the run."""


class Untracked:
    """No MLflow is configured."""

    run_id: str | None = None

    def send(self, steps: Sequence[StepMetrics]) -> None:
        """Nothing to do."""

    def finish(self, steps: Sequence[StepMetrics], result: Result, files: Sequence[Path]) -> None:
        """Nothing to do."""


def check_reachable(uri: str | None) -> None:
    """Ask MLflow's health page, within seconds.

    Raises:
        AwayError: a server is configured that does not answer.
        UserError: it refuses.
    """
    if not uri or not uri.startswith(("http://", "https://")):
        return
    way_out = (
        "start it (`make demo` does), mend MLFLOW_TRACKING_URI, or leave it empty to train without MLflow"
    )
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=5):  # noqa: S310 - http(s), checked
            return
    except urllib.error.HTTPError as error:
        kind = AwayError if is_passing(error.code) else UserError
        raise kind(f"MLflow at {uri} answers {error.code} {error.reason}: {way_out}") from None
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise AwayError(f"MLflow at {uri} does not answer ({reason}): {way_out}") from None


def open_tracker(config: FinetuneConfig, sources: Sources, run_file: Path) -> Tracker:
    """Begin the run in MLflow, or go on with the one that ``run_file`` names.

    Raises:
        RegistryUnavailable, RegistryRefused.
    """
    if not config.mlflow_tracking_uri:
        return Untracked()
    limit_patience(retries=1, seconds=5)  # training stands still meanwhile
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=config.mlflow_tracking_uri)
    with taking(config.mlflow_tracking_uri, "the run"):
        run_id = run_file.read_text().strip() if run_file.exists() else ""
        if run_id:
            client.update_run(run_id, status="RUNNING")
        else:
            run_id = _create_run(client, config, sources)
            run_file.write_text(run_id)
    return MlflowTracker(client, run_id)


class MlflowTracker:
    """One run in MLflow."""

    def __init__(self, client: Any, run_id: str, seconds_between: float = SEND_EVERY_S) -> None:
        self.run_id: str | None = run_id
        self._seconds_between = seconds_between
        self._client = client
        self._sent = 0
        self._next = 0.0

    def send(self, steps: Sequence[StepMetrics]) -> None:
        """Send what was not sent, every few seconds; while MLflow is away, less often."""
        if time.monotonic() < self._next:
            return
        answered = self._guarded(self._send_all, steps)
        wait = self._seconds_between if answered else self._seconds_between * BACK_OFF
        self._next = time.monotonic() + wait

    def finish(self, steps: Sequence[StepMetrics], result: Result, files: Sequence[Path]) -> None:
        """Send all that is left; when MLflow is still away, say so and leave it."""
        if self._guarded(self._send_all, steps):
            self._guarded(self._close, result, files)

    def _send_all(self, steps: Sequence[StepMetrics]) -> None:
        while self._sent < len(steps):
            batch = steps[self._sent : self._sent + _BATCH]
            metrics = [metric for step in batch for metric in _metrics(step)]
            self._client.log_batch(self.run_id, metrics=metrics)
            self._sent += len(batch)

    def _close(self, result: Result, files: Sequence[Path]) -> None:
        for name in ("train_loss", "validation_loss", "base_validation_loss", "trained_tokens"):
            value = getattr(result, name)
            if value is not None:
                self._client.log_metric(self.run_id, name, value, step=result.steps)
        for file in files:
            self._client.log_artifact(self.run_id, str(file))
        self._client.set_terminated(self.run_id)

    def _guarded(self, call: Any, *values: Any) -> bool:
        """Whether MLflow took it; training goes on either way."""
        try:
            call(*values)
        except Exception as error:  # MLflow's stores raise their clients' own exceptions as well
            _log.warning("MLflow is away, metrics.jsonl has everything: %s", error)
            return False
        return True


def _create_run(client: Any, config: FinetuneConfig, sources: Sources) -> str:
    from mlflow.entities import Param

    name = config.bot or "onggi"
    experiment = client.get_experiment_by_name(name)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(name)
    tags = {f"metadata.{key}": value for key, value in config.metadata.items()}
    tags |= {"base_revision": sources.base.revision, "dataset_digest": sources.dataset.digest}
    tags |= {"job_id": config.job_id} if config.job_id else {}
    run_name = config.job_id or config.output.resolve().name
    run_id = str(client.create_run(experiment_id, tags=tags, run_name=run_name).info.run_id)
    values = config.training_values() | {"base": sources.base.name, "rows": len(sources.dataset.rows)}
    client.log_batch(run_id, params=[Param(key, str(value)) for key, value in values.items()])
    client.log_inputs(run_id, _datasets(config, sources))
    client.log_dict(run_id, config.model_dump(mode="json"), "config.json")
    return run_id


def _datasets(config: FinetuneConfig, sources: Sources) -> list[Any]:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = []
    for context, address, dataset in (
        ("training", config.data, sources.dataset),
        ("validation", config.validation, sources.validation),
    ):
        if dataset and address:
            name = address.rpartition("/")[2]
            digest = dataset.digest.removeprefix("sha256:")[:36]  # as much as MLflow keeps
            entry = Dataset(name=name, digest=digest, source_type="local", source=f'{{"uri": "{address}"}}')
            inputs.append(DatasetInput(entry, [InputTag("mlflow.data.context", context)]))
    return inputs


def _metrics(step: StepMetrics) -> list[Any]:
    from mlflow.entities import Metric

    values = {
        "loss": step.loss,
        "learning_rate": step.learning_rate,
        "epoch": step.epoch,
        "tokens_per_second": step.tokens_per_second,
        "gpu_memory": step.gpu_memory,
    }
    milliseconds = round(step.time * 1000)
    return [Metric(key, value, milliseconds, step.step) for key, value in values.items() if value is not None]
