"""Fine-tunes as tests ask for them and follow them."""

import itertools
from typing import Any

import httpx

from tests.e2e.conftest import BASE, ROOT, Onggi
from tests.e2e.kube import until

SAMPLES = ROOT / "jobs" / "samples"
TRAINED = 900
"""Seconds within which a fine-tune of some steps is trained and judged on a busy machine."""


def upload(onggi: Onggi, learned: int) -> dict[str, str]:
    """Upload samples: rows to learn, and rows to be judged on."""
    sdk = onggi.sdk("control")
    files = {
        "training_file": b"".join(itertools.islice((SAMPLES / "train.jsonl").open("rb"), learned)),
        "validation_file": (SAMPLES / "heldout.jsonl").read_bytes(),
    }
    return {
        name: sdk.files.create(file=(f"{name}.jsonl", data), purpose="fine-tune").id
        for name, data in files.items()
    }


def create(onggi: Onggi, rows: dict[str, str], bot: str) -> Any:
    """Ask for a fine-tune of one pass, eight rows a step."""
    return onggi.sdk("control").fine_tuning.jobs.create(
        model=BASE,
        suffix=bot,
        seed=1,
        **rows,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": 8}}},
        extra_body={"onggi": {"recipe": "tiny", "max_length": 256}},
    )


def job(onggi: Onggi, job_id: str) -> dict[str, Any] | None:
    """The job; None while control is starting again."""
    try:
        answer = onggi.control("GET", f"/v1/fine_tuning/jobs/{job_id}")
    except httpx.TransportError:
        return None
    return dict(answer.json()) if answer.is_success else None


def ended(onggi: Onggi, job_id: str, seconds: float = TRAINED) -> dict[str, Any]:
    """The job once it has ended, however it did."""

    def found() -> dict[str, Any] | None:
        now = job(onggi, job_id)
        return now if now and now["finished_at"] else None

    return until(found, seconds, f"the end of {job_id}")


def events(onggi: Onggi, job_id: str) -> list[dict[str, Any]]:
    """Everything that is told of a job, the oldest first."""
    listed = onggi.control("GET", f"/v1/fine_tuning/jobs/{job_id}/events?limit=100").json()["data"]
    return list(reversed(listed))


def pods(onggi: Onggi, label: str, step: str) -> list[dict[str, Any]]:
    """The pods of one step of a fine-tune."""
    return onggi.kube.items("pods", f"onggi.dev/fine-tune={label},onggi.dev/step={step}")
