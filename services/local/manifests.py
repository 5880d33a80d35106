"""Write the Jobs of k8s/jobs anew from the chart's templates: ``make manifests [REGISTRY=...]``.

Each file is one of the chart's Job manifests (``charts/onggi/templates/jobs``), filled in by the code that
control fills them in with: a recipe's values as FINETUNE_*, and the cards that the planner says it fits on.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from common import errors, gpu_classes, vram
from common.errors import UserError
from common.finetune_config import FinetuneConfig
from common.job_config import load_yaml
from common.models import local_name
from services.control.kubernetes import manifest, marks
from services.control.kubernetes.marks import Object

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "onggi"
FOLDER = ROOT / "k8s" / "jobs"
NAMESPACE = "onggi"
CLAIM = "onggi-models"
BOT = "support-bot"
ROWS = "jobs/samples/train.jsonl"
HELD_OUT = "jobs/samples/heldout.jsonl"
PORT = 29500
PEER_SECONDS = 1800
"""How far apart the pods of one training may be scheduled."""


@dataclass(frozen=True)
class Finetune:
    """A file with a training Job: the profile whose base it trains, its recipe, the card it is for."""

    profile: str
    recipe: str
    card: str | None = None
    pods: int = 1
    changes: Mapping[str, Any] = field(default_factory=dict)


FINETUNES = {
    "finetune-lora-rtx5090": Finetune("rtx5090", "lora-32gb", "rtx5090"),
    "finetune-qlora-rtx5060ti": Finetune("rtx5060ti", "qlora-16gb", "rtx5060ti-16gb"),
    "finetune-cpu": Finetune("cpu", "tiny", changes={"epochs": 1, "max_length": 256}),
    "finetune-multi-node": Finetune("rtx5090", "lora-32gb", "rtx5090", pods=2),
}


def main() -> None:
    """Write every file."""
    for name, text in render(find_helm(), os.environ.get("REGISTRY", "")).items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(f"wrote k8s/jobs/{name}")


def find_helm() -> str:
    """The helm to use: ``HELM``, else the one on PATH.

    Raises:
        UserError: there is none.
    """
    found = os.environ.get("HELM") or shutil.which("helm")
    if not found:
        raise UserError("helm is not on PATH: install it (https://helm.sh/docs/intro/install), or set HELM=")
    return found


def render(helm: str, registry: str = "") -> dict[str, str]:
    """Every file's name and content; images are this cluster's own unless a ``registry`` has them."""
    files = {}
    for name, wanted in FINETUNES.items():
        base = _base(wanted.profile)
        templates = _templates(helm, wanted.profile, registry)
        files[f"{name}.yaml"] = _document(finetune(templates["finetune"], name, wanted, base))
    templates, base = _templates(helm, "rtx5090", registry), _base("rtx5090")
    files["evaluate.yaml"] = _document([evaluate(templates["evaluate"], "finetune-lora-rtx5090", base)])
    files["download.yaml"] = _document(
        download(_templates(helm, "rtx5090", registry, CLAIM)["download"], base)
    )
    return files


def finetune(template: Object, name: str, wanted: Finetune, base: str) -> list[Object]:
    """A training Job and, where it has several pods, the Service by which they find each other."""
    values = load_yaml(FinetuneConfig, ROOT / "jobs" / "recipes" / f"{wanted.recipe}.yaml")
    values |= {"bot": BOT, "base": local_name(base.partition("@")[0]), "data": ROWS, "validation": HELD_OUT}
    values |= dict(wanted.changes)
    values.pop("output", None)
    job = _named(template, name, {marks.FINE_TUNE: name, marks.BOT: BOT})
    manifest.set_environment(
        _containers(job), {f"FINETUNE_{key.upper()}": values[key] for key in _order(values)}
    )
    _fetch(job, base)
    if wanted.card:
        manifest.place(job, _affinity(values, wanted.card))
    if wanted.pods == 1:
        return [job]
    _spread(job, wanted.pods)
    return [_service(job), job]


def evaluate(template: Object, of: str, base: str) -> Object:
    """The Job that judges a version of the fine-tune ``of``."""
    job = _named(template, "evaluate", {marks.FINE_TUNE: of, marks.BOT: BOT})
    manifest.set_environment(
        _containers(job),
        {"EVALUATE_VERSION": f"{BOT}@1", "EVALUATE_DATA": HELD_OUT, "EVALUATE_MAX_LENGTH": 1024},
    )
    _fetch(job, base)
    return job


def download(template: Object, base: str) -> list[Object]:
    """The Job that fills a claim with a base model, and the claim."""
    job = _named(template, "download", {})
    name, _, revision = base.partition("@")
    values = {"DOWNLOAD_NAME": name, "DOWNLOAD_REVISION": revision or None}
    manifest.set_environment(_containers(job), values)
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "40Gi"}}}
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": CLAIM, "namespace": NAMESPACE},
        "spec": spec,
    }
    return [claim, job]


def _templates(helm: str, profile: str, registry: str, claim: str = "") -> dict[str, Object]:
    values = ["-f", str(CHART / "values" / f"{profile}.yaml"), "-f", str(CHART / "values" / "ci.yaml")]
    options = {
        "global.imageRegistry": registry,
        "global.localImages": "false" if registry else "true",
        "jobs.modelCache.existingClaim": claim,
    }
    sets = [word for key, value in options.items() for word in ("--set", f"{key}={value}")]
    command = [helm, "template", "onggi", str(CHART), "-n", NAMESPACE, *values, *sets]
    ran = subprocess.run(
        [*command, "--show-only", "templates/jobs/configmap.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        raise UserError(f"helm template with profile {profile}: {ran.stderr.strip()}")
    data = yaml.safe_load(ran.stdout)["data"]
    return {name.removesuffix(".yaml"): yaml.safe_load(text) for name, text in data.items()}


def _base(profile: str) -> str:
    """The profile's one base model, as ``hub/id@revision``."""
    values = yaml.safe_load((CHART / "values" / f"{profile}.yaml").read_text(encoding="utf-8"))
    [server] = values["vllm"]["servers"].values()
    return str(server["model"])


def _named(template: Object, name: str, labels: Mapping[str, str]) -> Object:
    job = manifest.name_job(template, name, labels, {})
    job["metadata"] = {"name": name, "namespace": NAMESPACE} | job["metadata"]
    return job


def _fetch(job: Object, base: str) -> None:
    name, _, revision = base.partition("@")
    manifest.set_base(job, name, revision)


def _containers(job: Object) -> list[Object]:
    containers: list[Object] = job["spec"]["template"]["spec"]["containers"]
    return containers


def _order(values: Mapping[str, Any]) -> list[str]:
    """What is changed most comes first."""
    first = ["bot", "base", "data", "validation"]
    return [*first, *(key for key in values if key not in first)]


def _affinity(values: Mapping[str, Any], card: str) -> Object:
    config = FinetuneConfig(**values, output=Path(), mlflow_tracking_uri="http://mlflow")
    plan = vram.requirement(config, vram.shape_of(config.base, Path()))
    fleet = gpu_classes.from_values([{"name": card}])
    return gpu_classes.node_affinity(gpu_classes.choose(plan, fleet), plan, fleet)


def _spread(job: Object, pods: int) -> None:
    """Let ``pods`` pods train together; they find the first one by the Service that is called as the Job."""
    name, spec = job["metadata"]["name"], job["spec"]
    spec |= {"completionMode": "Indexed", "completions": pods, "parallelism": pods, "backoffLimit": 6 * pods}
    spec["template"]["spec"]["subdomain"] = name
    [container] = _containers(job)
    command = container["command"]
    own = command.index("--") + 1
    torchrun = [
        *("python", "-m", "jobs.finetune.torchrun", f"--nnodes={pods}", "--nproc-per-node=1"),
        *("--node-rank=$(JOB_COMPLETION_INDEX)", f"--master-addr={name}-0.{name}", f"--master-port={PORT}"),
        *("--max-restarts=0", f"--rdzv-conf=timeout={PEER_SECONDS}"),
    ]
    # One that was killed makes the others end as well, and whoever is back first may have to try again.
    tries = ["--tries=8" if word.startswith("--tries=") else word for word in command[:own]]
    container["command"] = [*tries, *torchrun, *command[own + 1 :]]
    manifest.set_environment([container], {"FINETUNE_PEER_TIMEOUT": PEER_SECONDS})


def _service(job: Object) -> Object:
    name = job["metadata"]["name"]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": job["metadata"]["labels"]},
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {"batch.kubernetes.io/job-name": name},
            "ports": [{"name": "training", "port": PORT}],
        },
    }


def _document(objects: list[Object]) -> str:
    head = "# Made by `make manifests` from charts/onggi/templates/jobs; README.md says what to change.\n"
    reads = "".join(f"# {line}\n" for line in _reads(objects[-1]))
    bodies = [yaml.safe_dump(one, sort_keys=False, allow_unicode=True, width=110) for one in objects]
    return head + reads + "---\n".join(bodies)


def _reads(job: Object) -> list[str]:
    """What the Job reads, one line each: Secrets, ConfigMaps, rows."""
    [container] = _containers(job)
    secrets: dict[str, list[str]] = {}
    for entry in container.get("env") or []:
        if reference := (entry.get("valueFrom") or {}).get("secretKeyRef"):
            secrets.setdefault(reference["name"], []).append(reference["key"])
    lines = [f"Secret {name}: {', '.join(keys)}" for name, keys in secrets.items()]
    lines += [
        f"ConfigMap {source['configMapRef']['name']}: addresses" for source in container.get("envFrom") or []
    ]
    given = {entry["name"]: entry.get("value") for entry in container.get("env") or []}
    rows = ("FINETUNE_DATA", "FINETUNE_VALIDATION", "EVALUATE_DATA")
    return lines + [f"{name}: {given[name]}" for name in rows if given.get(name)]


if __name__ == "__main__":
    errors.run(main)
