"""k8s/jobs: made of the chart's templates, complete, and such as the jobs themselves can read."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from common.finetune_config import FinetuneConfig
from common.job_config import parse
from jobs.evaluate.config import EvaluateConfig
from services.local import manifests
from services.local.manifests import FOLDER
from tests.charts import helm

FILES = sorted(FOLDER.glob("*.yaml"))
FINETUNES = [path for path in FILES if path.stem.startswith("finetune")]
MIB = 1 << 20


@pytest.fixture(scope="module")
def rendered() -> dict[str, str]:
    return manifests.render(helm.binary())


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def job_of(path: Path) -> dict[str, Any]:
    [job] = [one for one in documents(path) if one["kind"] == "Job"]
    return job


def container(job: dict[str, Any]) -> dict[str, Any]:
    [found] = job["spec"]["template"]["spec"]["containers"]
    return dict(found)


def environment(job: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container(job)["env"] if "value" in entry}


def memory_above(job: dict[str, Any]) -> int:
    """The MiB that the card must have more than."""
    affinity = job["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    [term] = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    [expression] = term["matchExpressions"]
    assert (expression["key"], expression["operator"]) == ("nvidia.com/gpu.memory", "Gt")
    return int(expression["values"][0])


def test_every_file_is_what_make_manifests_writes(rendered: dict[str, str]) -> None:
    written = {path.name: path.read_text() for path in FILES}
    assert written == rendered, "run `make manifests`"


def test_images_come_from_the_registry_that_is_named() -> None:
    files = manifests.render(helm.binary(), "registry.example.com/team")
    assert all("image: registry.example.com/team/onggi-jobs:" in text for text in files.values())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_says_at_its_top_what_it_reads(path: Path) -> None:
    head = "\n".join(line for line in path.read_text().splitlines() if line.startswith("#"))
    job = job_of(path)
    for entry in container(job).get("env", []):
        if secret := entry.get("valueFrom", {}).get("secretKeyRef"):
            assert f"Secret {secret['name']}: " in head
            assert entry["name"] in head
    for source in container(job).get("envFrom", []):
        assert f"ConfigMap {source['configMapRef']['name']}" in head
    given = environment(job)
    for name in ("FINETUNE_DATA", "FINETUNE_VALIDATION", "EVALUATE_DATA"):
        assert name not in given or f"{name}: {given[name]}" in head


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_job_ends_on_what_no_other_pod_mends_and_forgives_disruptions(path: Path) -> None:
    spec = job_of(path)["spec"]
    assert spec["podFailurePolicy"]["rules"] == [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [2, 3]}},
    ]
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    assert spec["activeDeadlineSeconds"] > 0 < spec["ttlSecondsAfterFinished"]


@pytest.mark.parametrize("path", FINETUNES, ids=lambda path: path.stem)
def test_a_training_job_says_only_what_jobs_finetune_reads(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(path)
    for name, value in environment(job).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow")
    flags = [word for word in container(job)["command"] if word.startswith("--checkpoint-store")]
    config = parse(FinetuneConfig, flags, prog="test")
    assert config.bot == job["metadata"]["labels"]["onggi.dev/bot"]
    for rows in (config.data, config.validation):
        assert rows is not None
        assert (manifests.ROOT / rows).is_file()


def test_the_evaluation_says_only_what_jobs_evaluate_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(job_of(FOLDER / "evaluate.yaml")).items():
        monkeypatch.setenv(name, value)
    assert parse(EvaluateConfig, [], prog="test").version == "support-bot@1"


@pytest.mark.parametrize("path", FINETUNES, ids=lambda path: path.stem)
def test_a_trainer_that_is_killed_starts_again_in_its_pod(path: Path) -> None:
    command = container(job_of(path))["command"]
    assert command[:3] == ["python", "-m", "jobs.restart"]
    assert "jobs.finetune" in command[command.index("--") :]
    assert command[-1] == "--checkpoint-store=$(STORE_URL)/jobs/$(FINETUNE_JOB_ID)"


def test_each_card_gets_what_fits_it_and_no_smaller_one() -> None:
    lora, qlora = (job_of(FOLDER / f"finetune-{name}.yaml") for name in ("lora-rtx5090", "qlora-rtx5060ti"))
    assert 16311 < memory_above(lora) < 32607
    assert 8151 < memory_above(qlora) < 16311
    for job in (lora, qlora):
        assert container(job)["resources"]["limits"]["nvidia.com/gpu"] == 1
        assert job["spec"]["template"]["spec"]["priorityClassName"] == "onggi-onggi-training"
    for name in ("finetune-cpu", "evaluate", "download"):
        assert "nvidia.com/gpu" not in container(job_of(FOLDER / f"{name}.yaml"))["resources"]["limits"]


def test_pods_that_train_together_find_each_other() -> None:
    service, job = documents(FOLDER / "finetune-multi-node.yaml")
    spec = job["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 2, 2)
    assert spec["template"]["spec"]["subdomain"] == service["metadata"]["name"]
    assert (service["spec"]["clusterIP"], service["spec"]["publishNotReadyAddresses"]) == ("None", True)
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": job["metadata"]["name"]}
    command = container(job)["command"]
    assert f"--master-addr={job['metadata']['name']}-0.{service['metadata']['name']}" in command
    given = environment(job)
    together = int(given["FINETUNE_BATCH_SIZE"]) * int(given["FINETUNE_GRADIENT_ACCUMULATION"])
    assert together % spec["completions"] == 0


def test_the_readme_names_every_file_and_no_other() -> None:
    readme = (FOLDER / "README.md").read_text()
    named = {word for word in readme.replace("`", " ").split() if word.endswith(".yaml") and "/" not in word}
    assert named == {path.name for path in FILES}


def test_the_namespace_takes_only_restricted_pods() -> None:
    namespace = yaml.safe_load((FOLDER.parent / "namespaces" / "onggi.yaml").read_text())
    labels = namespace["metadata"]["labels"]
    assert {labels[f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "warn", "audit")} == {
        "restricted"
    }
