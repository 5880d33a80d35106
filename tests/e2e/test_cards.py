"""Which node a training pod gets: the runner in front of a real scheduler and a fleet of kwok's nodes.

The fleet's pods only pretend to run, so nothing is trained here.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.errors import TooBigError, UserError
from common.finetune_config import FinetuneConfig
from common.job_config import load_yaml
from services.control.bases import Base
from services.control.context import make_kubernetes_runner
from services.control.kubernetes.runner import KubernetesRunner
from services.control.runner import JobSpec
from services.control.settings import ControlSettings
from services.database.tables import new_id
from tests.e2e.cluster import change
from tests.e2e.conftest import CHART, ROOT
from tests.e2e.kube import Kube, until
from tests.e2e.namespaces import restricted

NAMESPACE = "onggi-cards"
MEMORY = "nvidia.com/gpu.memory"
FLEET_5090 = ("rtx5090-a", "rtx5090-b")
BASES = ("Qwen2.5-7B-Instruct", "Qwen3-4B-Instruct-2507", "Llama-3.1-8B-Instruct", "Qwen3-32B")


@pytest.fixture(scope="module")
def cards(kube: Kube) -> Iterator[Kube]:
    """A namespace of this file's own, and a fleet."""
    change("add", "fleet")
    with restricted(kube, NAMESPACE) as mine:
        yield mine


@pytest.fixture(scope="module")
def runner(cards: Kube, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubernetesRunner]:
    """Control's runner as the profile rtx5090 sets it up, but for the PriorityClass."""
    folder = tmp_path_factory.mktemp("runner")
    shown = cards.helm(
        "template", "onggi", str(CHART), "--show-only", "templates/jobs/configmap.yaml",
        *("-f", str(CHART / "values" / "rtx5090.yaml"), "-f", str(CHART / "values" / "ci.yaml")),
        *("--set", "priorityClasses.create=false", "--set", "jobs.nodeSelector.type=kwok"),
    )  # fmt: skip
    for name, text in yaml.safe_load(shown)["data"].items():
        job = yaml.safe_load(text)
        # A volume of its own would have to be made on a node that only pretends.
        for volume in job["spec"]["template"]["spec"]["volumes"]:
            if volume.pop("ephemeral", None):
                volume["emptyDir"] = {}
        (folder / name).write_text(yaml.safe_dump(job))
    settings = ControlSettings(
        debug=True,
        runner="kubernetes",
        namespace=NAMESPACE,
        job_templates=folder,
        base_models=tuple(Base(name=name, source=name) for name in BASES),
        gpu_discover_nodes=True,
        store_url=str(folder / "store"),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(cards.kubeconfig))
        patch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        yield make_kubernetes_runner(settings)


@pytest.fixture(autouse=True)
def no_jobs_left(runner: KubernetesRunner) -> Iterator[None]:
    yield
    for job in runner.list():
        runner.cancel(job.spec.id)


def asked(recipe: str, base: str, **values: Any) -> JobSpec:
    """A request for a fine-tune of ``base`` by a shipped recipe."""
    job_id = new_id("ftjob-")
    config = load_yaml(FinetuneConfig, ROOT / "jobs" / "recipes" / f"{recipe}.yaml") | {
        "base": base, "bot": "support-bot", "job_id": job_id, "seed": 1,
    }  # fmt: skip
    given: dict[str, Any] = {
        "id": job_id, "person_id": "", "created_at": time.time(), "bot": "support-bot", "base": base,
        "training_file": "file-1", "validation_file": None, "hyperparameters": {}, "seed": 1,
        "metadata": None, "config": config, "regression_set": "", "held_out_rows": 0,
    }  # fmt: skip
    return JobSpec(**given | values)


def start(runner: KubernetesRunner, folder: Path, spec: JobSpec) -> str:
    inputs = folder / spec.id
    inputs.mkdir()
    (inputs / "train.jsonl").write_text("{}\n")
    runner.check(spec)
    runner.start(spec, inputs)
    return spec.id


def node_of(cards: Kube, job_id: str) -> dict[str, Any]:
    """The labels of the node that the job's pod was given, its name besides."""

    def node() -> str:
        pods = cards.items("pods", f"onggi.dev/fine-tune={job_id}")
        return str(pods[0]["spec"].get("nodeName", "")) if pods else ""

    name = until(node, 60, f"a node for {job_id}")
    return {"name": name} | dict(cards.get("node", name)["metadata"]["labels"])


def test_lora_lands_on_a_5090_and_qlora_on_a_5060_ti_with_16_gb(
    cards: Kube, runner: KubernetesRunner, tmp_path: Path
) -> None:
    lora = start(runner, tmp_path, asked("lora-32gb", "Qwen2.5-7B-Instruct"))
    qlora = start(runner, tmp_path, asked("qlora-16gb", "Llama-3.1-8B-Instruct"))
    assert node_of(cards, lora)[MEMORY] == "32607"
    assert node_of(cards, qlora)[MEMORY] == "16311"


def test_a_class_that_is_asked_for_is_given(cards: Kube, runner: KubernetesRunner, tmp_path: Path) -> None:
    spec = asked("qlora-16gb", "Llama-3.1-8B-Instruct", node_class="rtx5090")
    assert node_of(cards, start(runner, tmp_path, spec))[MEMORY] == "32607"


def occupying(node: str) -> dict[str, Any]:
    """A pod that has the node's card, and stays: kwok soon lets a Job's pods end."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"has-{node}"},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
            "securityContext": {
                "runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "busy", "image": "busy",
                "resources": {"limits": {"nvidia.com/gpu": "1"}},
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    }  # fmt: skip


def test_who_comes_late_waits_for_a_5090_and_never_gets_the_mixed_node(
    cards: Kube, runner: KubernetesRunner, tmp_path: Path
) -> None:
    cards.apply([occupying(node) for node in FLEET_5090])
    for node in FLEET_5090:
        cards.kubectl("wait", f"pod/has-{node}", "--for=condition=Ready", "--timeout=60s")
    job_id = start(runner, tmp_path, asked("lora-32gb", "Qwen2.5-7B-Instruct"))

    def waits() -> bool:
        runner.tick()
        return any("FailedScheduling" in event.message for event in runner.events(job_id))

    until(waits, 30, "the scheduler's word on it")
    waiting = runner.get(job_id)
    assert waiting is not None
    assert waiting.status.state == "queued"
    cards.kubectl("delete", "pod", f"has-{FLEET_5090[0]}", "--grace-period=0", "--force")
    assert node_of(cards, job_id)["name"] == FLEET_5090[0]


def test_what_no_card_holds_is_refused_before_a_job_is_made(cards: Kube, runner: KubernetesRunner) -> None:
    def names() -> set[str]:
        return cards.names("jobs")

    before = names()
    with pytest.raises(TooBigError) as refusal:
        runner.check(asked("lora-32gb", "Qwen3-32B"))
    assert "Would fit: " in str(refusal.value)
    assert "mixed cards" in str(refusal.value)
    assert "DRA driver" in str(refusal.value)
    with pytest.raises(TooBigError):
        runner.check(asked("qlora-16gb", "Llama-3.1-8B-Instruct", node_class="rtx5060ti-8gb"))
    with pytest.raises(UserError, match="node class rtx4090 is not in this cluster"):
        runner.check(asked("qlora-16gb", "Llama-3.1-8B-Instruct", node_class="rtx4090"))
    assert names() == before
