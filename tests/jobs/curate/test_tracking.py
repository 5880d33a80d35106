"""A dataset as a real MLflow keeps it: its digest, its counts and ids, and nobody's words."""

from pathlib import Path

from jobs.curate.dataset import build
from jobs.curate.examples import draft
from jobs.curate.personal import Scrubber
from jobs.curate.tracking import record
from jobs.prepare.folder import TRAIN
from tests.jobs.curate.test_dataset import KEPT_OUT, TRAINED, said


def test_a_dataset_is_logged_once_by_digest_without_its_rows(mlflow_url: str, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    examples = [
        said("a", TRAINED[0], correction="Zanzibar, call 010-1234-5678."),
        said("b", KEPT_OUT[0], correction="Timbuktu."),
        said("c", "kim@example.com", rating=1),  # as an app may name its conversations
        said("d", "Kim Minsu's talk", rating=-1),
    ]
    curated = build(draft(examples), Scrubber(), {})
    run_id = record(mlflow_url, "curated-bot", curated)
    assert record(mlflow_url, "curated-bot", curated) == run_id
    client = MlflowClient(mlflow_url)
    run = client.get_run(run_id)
    (logged,) = run.inputs.dataset_inputs
    assert logged.dataset.name == TRAIN
    assert curated.digest.startswith(f"sha256:{logged.dataset.digest}")
    assert run.data.metrics["rows_train"] + run.data.metrics["rows_heldout"] == 3
    assert run.data.metrics["personal_phone_number"] == 2  # in the chat row and in the preference row
    kept = Path(client.download_artifacts(run_id, "curate/manifest.json", str(tmp_path))).read_text()
    assert all(name in kept for name in ("fb_a", "fb_b", "fb_c", "fb_d"))
    assert not any(word in kept for word in ("Zanzibar", "Timbuktu", "about, then", "kim", "Kim"))
