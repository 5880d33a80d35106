"""MLflow: a dataset as a run's input, with its figures and the ids that it came from; no row of it.

Rows would outlive an erasure there, which deletes what the database and the store hold.
"""

import json
from typing import Any

from common.registry import limit_patience, taking
from jobs.curate.dataset import Curated, origins
from jobs.prepare.folder import TRAIN

_DIGEST = 36
"""So many characters of a digest MLflow keeps."""


def record(tracking_uri: str, bot: str, curated: Curated) -> str:
    """Log ``curated`` on a run of experiment ``bot``, the same one for the same dataset; the run's id.

    Raises:
        RegistryUnavailable, RegistryRefused.
    """
    limit_patience(retries=2, seconds=20)
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=tracking_uri)
    with taking(tracking_uri, "the dataset"):
        found = client.get_experiment_by_name(bot)
        experiment = found.experiment_id if found else client.create_experiment(bot)
        return _find(client, experiment, curated) or _log(client, experiment, bot, curated)


def _find(client: Any, experiment: str, curated: Curated) -> str | None:
    same = f"tags.curated = '{curated.digest}' and attributes.status = 'FINISHED'"
    runs = client.search_runs([experiment], filter_string=same, max_results=1)
    return str(runs[0].info.run_id) if runs else None


def _log(client: Any, experiment: str, bot: str, curated: Curated) -> str:
    from mlflow.entities import DatasetInput, InputTag, Metric

    run = client.create_run(experiment, tags={"curated": curated.digest}, run_name="curate")
    run_id = str(run.info.run_id)
    counts = {f"rows_{name.removesuffix('.jsonl')}": rows for name, rows in curated.figures["rows"].items()}
    counts |= {f"personal_{kind.lower()}": count for kind, count in curated.figures["personal_data"].items()}
    counts |= {key: value for key, value in curated.figures.items() if isinstance(value, int)}
    client.log_batch(run_id, metrics=[Metric(key, value, 0, 0) for key, value in counts.items()])
    client.log_inputs(
        run_id, [DatasetInput(_entity(bot, curated), [InputTag("mlflow.data.context", "training")])]
    )
    client.log_dict(run_id, {"digest": curated.digest, "sources": origins(curated)}, "curate/manifest.json")
    client.set_terminated(run_id)
    return run_id


def _entity(bot: str, curated: Curated) -> Any:
    from mlflow.entities import Dataset

    # By the name and digest under which jobs.finetune logs it, so that MLflow shows both runs at one dataset.
    digest = curated.digest.removeprefix("sha256:")[:_DIGEST]
    source = json.dumps({"uri": f"onggi:/datasets/{bot}/{curated.digest}"})
    profile = json.dumps(curated.figures["rows"])
    return Dataset(name=TRAIN, digest=digest, source_type="local", source=source, profile=profile)
