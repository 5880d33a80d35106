import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.errors import TooBigError, UserError
from common.storage import open_store
from services.control.bases import Base
from services.control.context import make_kubernetes_runner
from services.control.kubernetes import watch
from services.control.kubernetes.runner import KubernetesRunner
from services.control.runner import FINISHED, Job, JobSpec, RetrainRun, RunnerUnavailable
from services.control.settings import ROOT, ControlSettings
from tests.charts.rendering import named, render
from tests.services.control import fake_api_server
from tests.services.control.fake_api_server import FakeApiServer, Object, node, now

BASE = "Qwen2.5-7B-Instruct"
ID = "ftjob-0123456789abcdef01234567"
STEP = {
    "stream": "training", "event": "step", "epoch": 0.5, "step": 1, "loss": 2.5, "learning_rate": 1e-4,
    "gpu_memory": None, "tokens_per_second": 100.0, "timestamp": "2026-01-01T00:00:01.000000Z",
}  # fmt: skip


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApiServer]:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0)
    with fake_api_server.running(tmp_path / "kubeconfig") as fake:
        fake.nodes = [node("gpu-1", "NVIDIA-GeForce-RTX-5090", 32607)]
        yield fake


@pytest.fixture
def settings(tmp_path: Path) -> ControlSettings:
    """As the chart's Deployment sets them, with the Jobs of k8s/jobs as templates."""
    templates = tmp_path / "templates"
    templates.mkdir()
    for name, source in {"finetune": "finetune-lora-rtx5090", "evaluate": "evaluate"}.items():
        (templates / f"{name}.yaml").write_bytes((ROOT / "k8s" / "jobs" / f"{source}.yaml").read_bytes())
    return ControlSettings(
        debug=True,
        runner="kubernetes",
        namespace="onggi",
        job_templates=templates,
        owner_configmap="onggi-owner",
        base_models=(Base(name=BASE, source=f"Qwen/{BASE}", revision="abc"),),
        gpu_discover_nodes=True,
        store_url=str(tmp_path / "store"),
    )


@pytest.fixture
def runner(cluster: FakeApiServer, settings: ControlSettings) -> KubernetesRunner:
    return make_kubernetes_runner(settings)


def spec(**values: Any) -> JobSpec:
    config = {
        "job_id": ID, "bot": "support-bot", "base": BASE, "seed": 7, "rank": 8, "batch_size": 1,
        "max_length": 512, "metadata": {"why": "costs $(HOME)"},
    }  # fmt: skip
    given: dict[str, Any] = {
        "id": ID, "person_id": "person_1", "created_at": time.time(), "bot": "support-bot", "base": BASE,
        "training_file": "file-1", "validation_file": None, "hyperparameters": {"n_epochs": "auto"},
        "seed": 7, "metadata": None, "config": config, "regression_set": "", "held_out_rows": 2,
    }  # fmt: skip
    return JobSpec(**given | values)


def start(runner: KubernetesRunner, tmp_path: Path, **values: Any) -> JobSpec:
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    (inputs / "train.jsonl").write_text("{}\n")
    (inputs / "held_out.jsonl").write_text("{}\n")
    asked = spec(**values)
    runner.start(asked, inputs)
    return asked


def the(runner: KubernetesRunner, job_id: str = ID) -> Job:
    runner.tick()
    job = runner.get(job_id)
    assert job is not None
    return job


def leave_result(settings: ControlSettings, job_id: str = ID, **values: Any) -> None:
    """What jobs.finetune puts into the store at its end."""
    folder = Path(settings.store_url) / "results" / job_id
    folder.mkdir(parents=True, exist_ok=True)
    result = {"version": "support-bot@1", "trained_tokens": 2000} | values
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "metrics.jsonl").write_text(
        json.dumps({"step": 1, "loss": 2.5, "epoch": 0.5, "time": 1.0}) + "\n"
    )


def environment(job: Object, step: str = "finetune") -> dict[str, Any]:
    [container] = job["spec"]["template"]["spec"]["containers"]
    assert container["name"] == step
    return {entry["name"]: entry.get("value") for entry in container["env"]}


def messages(runner: KubernetesRunner, job_id: str = ID) -> list[str]:
    return [event.message for event in runner.events(job_id) if event.type == "message"]


def judged(runner: KubernetesRunner, cluster: FakeApiServer, settings: ControlSettings) -> None:
    """Run both steps of the job to their end."""
    pod = cluster.start_pod(ID, log=json.dumps(STEP) + "\n")
    runner.tick()
    leave_result(settings)
    cluster.end_pod(pod, 0)
    cluster.end_job(ID)
    runner.tick()
    cluster.end_pod(cluster.start_pod(f"{ID}-evaluate"), 0)
    cluster.end_job(f"{ID}-evaluate")
    runner.tick()


def test_a_fine_tune_is_two_jobs_and_runs_until_the_second_ends(
    runner: KubernetesRunner, cluster: FakeApiServer, settings: ControlSettings, tmp_path: Path
) -> None:
    start(runner, tmp_path)
    assert the(runner).status.state == "queued"
    pod = cluster.start_pod(ID, log=f"not ours\n{json.dumps(STEP)}\n" + '{"cut')
    status = the(runner).status
    assert (status.state, status.step) == ("running", "finetune")
    assert [event.data for event in runner.events(ID) if event.type == "metrics"] == [
        {"step": 1, "train_loss": 2.5, "epoch": 0.5, "learning_rate": 1e-4, "tokens_per_second": 100.0}
    ]

    leave_result(settings)
    cluster.end_pod(pod, 0)
    assert the(runner).status.state == "running", "the Job's own end comes a moment later"
    cluster.end_job(ID)
    status = the(runner).status
    assert (status.state, status.step, status.version) == ("running", "evaluate", "support-bot@1")
    second = cluster.jobs[f"{ID}-evaluate"]
    assert second["metadata"]["labels"]["onggi.dev/fine-tune"] == ID
    assert second["metadata"]["ownerReferences"][0]["uid"] == cluster.jobs[ID]["metadata"]["uid"]
    given = environment(second, "evaluate")
    assert (given["EVALUATE_VERSION"], given["EVALUATE_MAX_LENGTH"]) == ("support-bot@1", "512")
    assert given["EVALUATE_DATA"].endswith(f"jobs/{ID}/held_out.jsonl")
    assert "nvidia.com/gpu" not in json.dumps(second["spec"]["template"]["spec"]["containers"])

    runner.tick()
    assert len(cluster.jobs) == 2
    cluster.start_pod(f"{ID}-evaluate")
    cluster.end_job(f"{ID}-evaluate")
    assert messages(runner)[-1] == "The job is done."
    status = the(runner).status
    assert (status.state, status.done, status.trained_tokens) == ("succeeded", ["finetune", "evaluate"], 2000)
    assert messages(runner) == [
        "The job is queued.",
        "Step finetune began on gpu-1.",
        "Version support-bot@1 is registered.",
        "Step evaluate began on gpu-1.",
        "The job is done.",
    ]
    assert not (Path(settings.store_url) / "jobs" / ID).exists(), "nobody's words stay behind"


def test_rows_that_were_left_out_are_told_and_the_second_job_leaves_such_out_too(
    runner: KubernetesRunner, cluster: FakeApiServer, settings: ControlSettings, tmp_path: Path
) -> None:
    start(runner, tmp_path, config=spec().config | {"leave_out": True})
    assert environment(cluster.jobs[ID])["FINETUNE_LEAVE_OUT"] == "true"
    pod = cluster.start_pod(ID)
    left_out = "1 of 9 rows to be learned from were left out: line 2 (fb_1) is too long."
    leave_result(settings, left_out=left_out)
    cluster.end_pod(pod, 0)
    cluster.end_job(ID)
    runner.tick()
    assert environment(cluster.jobs[f"{ID}-evaluate"], "evaluate")["EVALUATE_LEAVE_OUT"] == "true"
    [told] = [event for event in runner.events(ID) if event.message == left_out]
    assert told.level == "warn"


def test_the_first_job_says_everything_that_its_pod_needs(
    runner: KubernetesRunner, cluster: FakeApiServer, tmp_path: Path
) -> None:
    start(runner, tmp_path, validation_file="file-2")
    job = cluster.jobs[ID]
    assert job["metadata"]["labels"].items() >= {
        "onggi.dev/fine-tune": ID, "onggi.dev/step": "finetune", "onggi.dev/bot": "support-bot",
        "app.kubernetes.io/component": "jobs",
    }.items()  # fmt: skip
    assert job["metadata"]["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "onggi-owner", "uid": "the-owner"}
    ]
    given = environment(job)
    assert (given["FINETUNE_BASE"], given["FINETUNE_RANK"], given["FINETUNE_JOB_ID"]) == (BASE, "8", ID)
    assert given["FINETUNE_DATA"].endswith(f"/store/jobs/{ID}/train.jsonl")
    assert given["FINETUNE_VALIDATION"].endswith("/held_out.jsonl")
    # Kubernetes would put the variable's value there.
    assert json.loads(given["FINETUNE_METADATA"]) == {"why": "costs $$(HOME)"}
    [download] = job["spec"]["template"]["spec"]["initContainers"]
    fetched = {entry["name"]: entry.get("value") for entry in download["env"]}
    assert (fetched["DOWNLOAD_NAME"], fetched["DOWNLOAD_REVISION"]) == (f"Qwen/{BASE}", "abc")


def test_it_goes_where_the_planner_says_and_never_to_a_mixed_node(
    runner: KubernetesRunner, cluster: FakeApiServer, tmp_path: Path
) -> None:
    cluster.nodes.append(node("mixed-1", "NVIDIA-GeForce-RTX-5090", 32607, cards=2, labelled=1))
    start(runner, tmp_path)
    affinity = cluster.jobs[ID]["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    [term] = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    [memory] = term["matchExpressions"]
    assert (memory["key"], memory["operator"]) == ("nvidia.com/gpu.memory", "Gt")
    assert 16311 < int(memory["values"][0]) < 32607
    assert term["matchFields"] == [{"key": "metadata.name", "operator": "NotIn", "values": ["mixed-1"]}]
    preferred = affinity["preferredDuringSchedulingIgnoredDuringExecution"][0]["preference"]
    assert preferred["matchExpressions"][0]["values"] == ["NVIDIA-GeForce-RTX-5090"]


def test_what_no_card_holds_is_refused_with_what_would_fit_and_nothing_is_made(
    runner: KubernetesRunner, cluster: FakeApiServer
) -> None:
    cluster.nodes = [node("gpu-2", "NVIDIA-GeForce-RTX-5060-Ti", 8151)]
    with pytest.raises(TooBigError, match="Would fit: "):
        runner.check(spec())
    cluster.nodes = [node("mixed-1", "NVIDIA-GeForce-RTX-5090", 32607, cards=2, labelled=1)]
    with pytest.raises(UserError, match=r"mixed-1 has mixed cards.*DRA driver"):
        runner.check(spec())
    cluster.nodes = [node("gpu-1", "NVIDIA-GeForce-RTX-5090", 32607)]
    with pytest.raises(UserError, match="node class rtx4090 is not in this cluster"):
        runner.check(spec(node_class="rtx4090"))
    assert cluster.jobs == {}


WRONG = "rows.jsonl line 3 is empty: remove it"


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        (2, f"step 1\nerror: {WRONG}\n", ("invalid_configuration", f"finetune: {WRONG}")),
        (3, "error: needs 20 GiB\n", ("does_not_fit", "finetune: needs 20 GiB")),
        (1, "error: MLflow does not answer\n", ("step_failed", "finetune: MLflow does not answer")),
        (
            1,
            "error: of another\nTraceback\n",
            ("step_failed", f"finetune ended with exit code 1: see kubectl logs job/{ID}"),
        ),
        (137, "", ("step_failed", f"finetune ended with exit code 137: see kubectl logs job/{ID}")),
    ],
)
def test_a_failed_job_says_why_in_its_steps_own_sentence(
    runner: KubernetesRunner,
    cluster: FakeApiServer,
    tmp_path: Path,
    code: int,
    message: str,
    expected: tuple[str, str],
) -> None:
    start(runner, tmp_path)
    cluster.end_pod(cluster.start_pod(ID, log=json.dumps(STEP)), code, message)
    runner.tick()
    cluster.end_job(ID, "Failed", "PodFailurePolicy", "Container finetune failed")
    status = the(runner).status
    assert status.error is not None
    assert (status.state, (status.error.code, status.error.message)) == ("failed", expected)
    assert messages(runner)[-1] == expected[1]
    resumed = f"Step finetune ended with exit code {code} on gpu-1: another pod resumes it."
    assert (resumed in messages(runner)) == (code in (1, 137))
    # A training that failed leaves no file of figures itself.
    assert [json.loads(line)["step"] for line in (runner.results(ID) or b"").splitlines()] == [1]


def test_a_job_past_its_deadline_says_so(
    runner: KubernetesRunner, cluster: FakeApiServer, tmp_path: Path
) -> None:
    start(runner, tmp_path)
    cluster.end_job(ID, "Failed", "DeadlineExceeded")
    error = the(runner).status.error
    assert error is not None
    assert (error.code, "86400 s" in error.message) == ("deadline_exceeded", True)


def test_the_story_of_a_pod_that_was_preempted_outlives_it(
    runner: KubernetesRunner, cluster: FakeApiServer, settings: ControlSettings, tmp_path: Path
) -> None:
    start(runner, tmp_path)
    restarted = {
        "component": "restart",
        "event": "restarted",
        "exit_code": 137,
        "attempt": 2,
        "timestamp": now(),
    }
    pod = cluster.start_pod(ID, log=f"{json.dumps(STEP)}\n{json.dumps(restarted)}\n")
    uid = pod["metadata"]["uid"]
    about = {"involvedObject": {"uid": uid}, "lastTimestamp": now(), "message": "no GPU is free"}
    cluster.events = [
        about | {"metadata": {"uid": "e1"}, "type": "Warning", "reason": "FailedScheduling"},
        about | {"metadata": {"uid": "e2"}, "type": "Normal", "reason": "Pulled"},
        about
        | {"metadata": {"uid": "e3"}, "type": "Warning", "reason": "Other", "involvedObject": {"uid": "?"}},
    ]
    runner.tick()
    cluster.end_pod(pod, 143, disrupted="preempted by another pod")
    runner.tick()
    cluster.pods.clear()
    cluster.events = []
    cluster.start_pod(ID, node="gpu-2", log=json.dumps(STEP | {"step": 2}))
    for again in (runner, make_kubernetes_runner(settings)):  # a restarted control
        told = messages(again)
        assert "FailedScheduling: no GPU is free" in told
        assert "The trainer ended with exit code 137 and starts again in its pod: try 2." in told
        assert "Step finetune lost its pod on gpu-1: preempted by another pod" in told
        assert "Step finetune began on gpu-2." in told
        assert len(told) == len(set(told))
        runner.tick()


def test_cancelling_deletes_both_jobs_and_the_rows_and_the_job_stays_listed(
    runner: KubernetesRunner, cluster: FakeApiServer, settings: ControlSettings, tmp_path: Path
) -> None:
    start(runner, tmp_path)
    cluster.start_pod(ID)
    runner.tick()
    cancelled = runner.cancel(ID)
    assert cancelled is not None
    assert cancelled.status.state == "cancelled"
    assert (cluster.jobs, cluster.pods) == ({}, {})
    assert the(make_kubernetes_runner(settings)).status.state == "cancelled"
    assert messages(runner)[-1] == "The job was cancelled."
    assert not (Path(settings.store_url) / "jobs" / ID).exists()
    assert runner.cancel(ID) == cancelled
    assert runner.cancel("ftjob-none") is None


def test_rows_that_a_job_left_can_be_removed_and_it_stays_listed(
    runner: KubernetesRunner, settings: ControlSettings, tmp_path: Path
) -> None:
    start(runner, tmp_path)
    runner.tick()
    runner.cancel(ID)
    store = open_store(settings.store_url)
    store.put_bytes(
        b"rows of a job whose record was written before they were dropped", f"jobs/{ID}/train.jsonl"
    )
    runner.forget_rows(ID)
    assert not store.list(f"jobs/{ID}")
    assert the(runner).status.state == "cancelled"


def test_a_cancel_that_was_cut_off_is_finished_by_the_next_control(
    runner: KubernetesRunner,
    cluster: FakeApiServer,
    settings: ControlSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start(runner, tmp_path)
    runner.tick()
    monkeypatch.setattr(runner, "_remove", lambda _: None)  # control is killed here
    runner.cancel(ID)
    assert ID in cluster.jobs
    make_kubernetes_runner(settings).tick()
    assert cluster.jobs == {}


def test_what_a_ttl_or_kubectl_removes_is_still_listed(
    runner: KubernetesRunner, cluster: FakeApiServer, settings: ControlSettings, tmp_path: Path
) -> None:
    start(runner, tmp_path)
    judged(runner, cluster, settings)
    told = messages(runner)
    cluster.delete(ID)
    restarted = make_kubernetes_runner(settings)
    assert [(job.spec.id, job.status.state) for job in restarted.list()] == [(ID, "succeeded")]
    assert messages(restarted) == told
    assert (restarted.results(ID) or b"").count(b"\n") == 1
    restarted.tick()
    assert the(restarted).status.state == "succeeded"


def test_a_job_that_kubectl_deletes_before_its_end_is_cancelled(
    runner: KubernetesRunner, cluster: FakeApiServer, tmp_path: Path
) -> None:
    start(runner, tmp_path)
    runner.tick()
    cluster.delete(ID)
    job = the(runner)
    assert (job.status.state, job.status.error and job.status.error.code) == ("cancelled", "job_gone")
    assert "it was deleted" in messages(runner)[-1]


def test_without_held_out_rows_nothing_is_judged(
    runner: KubernetesRunner, cluster: FakeApiServer, settings: ControlSettings, tmp_path: Path
) -> None:
    start(runner, tmp_path, held_out_rows=0)
    leave_result(settings)
    cluster.end_job(ID)
    assert (the(runner).status.state, list(cluster.jobs)) == ("succeeded", [ID])
    assert "No row is held out, so there is nothing to judge on: a person decides." in messages(runner)


def test_a_training_that_leaves_no_version_has_failed(
    runner: KubernetesRunner, cluster: FakeApiServer, tmp_path: Path
) -> None:
    start(runner, tmp_path)
    cluster.end_job(ID)
    status = the(runner).status
    assert (status.state, status.error and status.error.code) == ("failed", "not_registered")


@pytest.mark.parametrize("name", ["finetune-lora-rtx5090", "finetune-qlora-rtx5060ti", "finetune-cpu"])
def test_a_job_that_kubectl_made_is_listed_judged_and_followed(
    runner: KubernetesRunner, cluster: FakeApiServer, settings: ControlSettings, name: str
) -> None:
    manifest = yaml.safe_load((ROOT / "k8s" / "jobs" / f"{name}.yaml").read_text())
    job_id = f"ftjob-{cluster.apply(manifest)['metadata']['uid']}"
    pod = cluster.start_pod(name, log=json.dumps(STEP) + "\n")
    job = the(runner, job_id)
    assert (job.spec.bot, job.spec.training_file) == ("support-bot", "jobs/samples/train.jsonl")
    assert (job.spec.person_id, job.status.state) == ("", "running")
    assert job.spec.hyperparameters["batch_size"] == job.spec.config["batch_size"]
    leave_result(settings, job_id)
    cluster.end_pod(pod, 0)
    cluster.end_job(name)
    runner.tick()
    second = cluster.jobs[f"{name}-evaluate"]
    assert second["metadata"]["labels"]["onggi.dev/fine-tune"] == name
    assert environment(second, "evaluate")["EVALUATE_DATA"] == "jobs/samples/heldout.jsonl"
    cluster.end_job(f"{name}-evaluate")
    assert the(runner, job_id).status.state == "succeeded"
    cluster.delete(name)
    cluster.apply(manifest)  # applied again, it is another fine-tune
    runner.tick()
    assert sorted(job.status.state for job in runner.list()) == ["queued", "succeeded"]


def test_an_evaluation_that_kubectl_made_is_the_second_step(
    runner: KubernetesRunner, cluster: FakeApiServer, settings: ControlSettings, tmp_path: Path
) -> None:
    start(runner, tmp_path)
    by_hand = yaml.safe_load((ROOT / "k8s" / "jobs" / "evaluate.yaml").read_text())
    by_hand["metadata"]["labels"]["onggi.dev/fine-tune"] = ID
    cluster.apply(by_hand)
    leave_result(settings)
    cluster.end_job(ID)
    runner.tick()
    assert list(cluster.jobs) == [ID, "evaluate"]
    cluster.end_job("evaluate")
    assert the(runner).status.state in FINISHED


def test_what_the_api_server_refuses_is_said_and_leaves_nothing(
    runner: KubernetesRunner, cluster: FakeApiServer, settings: ControlSettings, tmp_path: Path
) -> None:
    cluster.refuses = (403, "exceeded quota: gpu")
    with pytest.raises(UserError, match="Kubernetes does not take the Job: exceeded quota: gpu"):
        start(runner, tmp_path)
    assert not (Path(settings.store_url) / "jobs" / ID).exists()
    assert runner.list() == []


def test_an_api_server_that_is_away_is_a_matter_of_asking_again(
    runner: KubernetesRunner, cluster: FakeApiServer
) -> None:
    cluster.away = True
    with pytest.raises(RunnerUnavailable, match="the Kubernetes API server does not answer"):
        runner.list()


def test_a_node_that_does_not_answer_takes_only_the_logs_away(
    runner: KubernetesRunner, cluster: FakeApiServer, tmp_path: Path
) -> None:
    start(runner, tmp_path)
    cluster.start_pod(ID, log=json.dumps(STEP))
    cluster.nodes_away = True
    assert the(runner).status.state == "running"
    assert messages(runner) == ["The job is queued.", "Step finetune began on gpu-1."]
    cluster.nodes_away = False
    assert len([event for event in runner.events(ID) if event.type == "metrics"]) == 1


def test_a_job_with_values_that_are_none_does_not_hide_the_others(
    runner: KubernetesRunner, cluster: FakeApiServer, tmp_path: Path
) -> None:
    start(runner, tmp_path)
    broken = yaml.safe_load((ROOT / "k8s" / "jobs" / "finetune-cpu.yaml").read_text())
    broken["metadata"]["annotations"] = {"onggi.dev/spec": "{}"}
    cluster.apply(broken)
    assert [job.spec.id for job in runner.list()] == [ID]
    runner.tick()


def test_a_retrain_that_a_person_asked_for_is_the_schedules_job_and_no_fine_tune(
    runner: KubernetesRunner, cluster: FakeApiServer, settings: ControlSettings
) -> None:
    templates = named(render("rtx5090"), "ConfigMap", "onggi-jobs")["data"]
    (settings.job_templates / "retrain.yaml").write_text(templates["retrain.yaml"])
    request = RetrainRun(id="run-1", bot="support-bot", author="Ada", force=True)
    runner.retrain(request)
    runner.retrain(request)
    job = cluster.jobs["onggi-retrain-run-1"]
    told = environment(job, "retrain")
    assert (told["RETRAIN_BOT"], told["RETRAIN_AUTHOR"]) == ("support-bot", "Ada")
    assert (told["RETRAIN_FORCE"], told["RETRAIN_MINIMUM"]) == ("true", "60")
    assert job["metadata"]["ownerReferences"][0]["name"] == "onggi-owner"
    assert list(cluster.jobs) == ["onggi-retrain-run-1"]
    assert runner.list() == []
