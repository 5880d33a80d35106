"""Fine-tunes as tests ask for them and follow them."""

import itertools
import tempfile
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import yaml
from safetensors.torch import load_file

from common.storage import open_store
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


def create(onggi: Onggi, rows: dict[str, str], bot: str, base: str = BASE) -> Any:
    """Ask for a fine-tune of one pass, eight rows a step."""
    return onggi.sdk("control").fine_tuning.jobs.create(
        model=base,
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


def weights(onggi: Onggi, version: str) -> torch.Tensor:
    """Every number of a version's adapter, as the object store has it."""
    bot, _, number = version.partition("@")
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setenv("AWS_ENDPOINT_URL", onggi.kube.service("onggi-store-s3", 8333))
        for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(key, onggi.kube.secret("onggi-store-s3", key))
        path = Path(folder) / "adapter.safetensors"
        open_store("s3://onggi").get_file(f"adapters/{bot}/{number}/adapter_model.safetensors", path)
        return torch.cat([tensor.flatten().float() for _, tensor in sorted(load_file(path).items())])


def loaded(address: str) -> set[str]:
    """The models that the vLLM at a pod's address has."""
    listed = httpx.get(f"http://{address}:8000/v1/models", timeout=5).json()["data"]
    return {model["id"] for model in listed}


def by_kubectl(onggi: Onggi, name: str, bot: str, **environ: str) -> list[dict[str, Any]]:
    """``k8s/jobs/<name>.yaml``, changed as its README says: this installation's image, base and resources."""
    manifests = list(yaml.safe_load_all((ROOT / "k8s" / "jobs" / f"{name}.yaml").read_text()))
    [trained] = [one for one in manifests if one["kind"] == "Job"]
    template = yaml.safe_load(onggi.kube.get("configmap", "onggi-jobs")["data"]["finetune.yaml"])
    own, theirs = (one["spec"]["template"]["spec"] for one in (trained, template))
    own.pop("runtimeClassName", None)  # there is no NVIDIA runtime here
    own["volumes"] = theirs["volumes"]
    for kind in ("initContainers", "containers"):
        _fit(own[kind][0], theirs[kind][0], {"DOWNLOAD_NAME": BASE, "DOWNLOAD_REVISION": ""})
    main = own["containers"][0]
    asked = main["resources"]["limits"].get("nvidia.com/gpu")
    main["resources"] = theirs["containers"][0]["resources"]
    if asked:
        main["resources"]["limits"]["nvidia.com/gpu"] = asked
    _set(main, {"FINETUNE_BOT": bot, "FINETUNE_BASE": BASE, **environ})
    for manifest in manifests:
        manifest["metadata"]["labels"]["onggi.dev/bot"] = bot
    return manifests


def _fit(container: dict[str, Any], template: dict[str, Any], environ: dict[str, str]) -> None:
    """The image of this installation, and this machine's way to its registries: its own CA bundle."""
    container["image"] = template["image"]
    container["env"] += [one for one in template["env"] if "/etc/onggi/ca" in str(one)]
    container["volumeMounts"] = template["volumeMounts"]
    known = {one["name"] for one in container["env"]}
    _set(container, {name: value for name, value in environ.items() if name in known})


def _set(container: dict[str, Any], environ: dict[str, str]) -> None:
    kept = [one for one in container["env"] if one["name"] not in environ]
    container["env"] = kept + [{"name": name, "value": value} for name, value in environ.items() if value]
