"""The API in front of the Kubernetes runner: what callers see of Jobs, also of those that kubectl made."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import openai
import pytest
import yaml
from sqlalchemy import select

from services.control import background
from services.control.bases import Base
from services.control.settings import ROOT, ControlSettings
from services.database.queries import bots
from services.database.tables import Training, Version
from tests.services.control import fake_api_server
from tests.services.control.conftest import House, rows, serving, until
from tests.services.control.fake_api_server import FakeApiServer, node

BASE = "Qwen2.5-7B-Instruct"
JOBS = "/v1/fine_tuning/jobs"


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApiServer]:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    with fake_api_server.running(tmp_path / "kubeconfig") as fake:
        fake.nodes = [node("gpu-1", "NVIDIA-GeForce-RTX-5090", 32607)]
        yield fake


@pytest.fixture
async def house(
    settings: ControlSettings, cluster: FakeApiServer, root: Path, tmp_path: Path
) -> AsyncIterator[House]:
    templates = tmp_path / "templates"
    templates.mkdir()
    for name, source in {"finetune": "finetune-lora-rtx5090", "evaluate": "evaluate"}.items():
        (templates / f"{name}.yaml").write_bytes((ROOT / "k8s" / "jobs" / f"{source}.yaml").read_bytes())
    on_kubernetes = {
        "runner": "kubernetes",
        "namespace": "onggi",
        "job_templates": templates,
        "owner_configmap": "onggi-owner",
        "base_models": (Base(name=BASE, source=f"Qwen/{BASE}", max_rank=32),),
        "gpu_discover_nodes": True,
    }
    async with serving(settings.model_copy(update=on_kubernetes), root) as running:
        yield running


async def create(house: House, **request: Any) -> Any:
    sdk = house.sdk()
    training = await sdk.files.create(file=("rows.jsonl", rows(20)), purpose="fine-tune")
    asked = {"model": BASE, "suffix": "support-bot", "training_file": training.id} | request
    asked.setdefault("extra_body", {"onggi": {"recipe": "lora-32gb"}})
    return await sdk.fine_tuning.jobs.create(**asked)


async def trainings(house: House) -> Sequence[Training]:
    async with house.database.read() as session:
        return (await session.scalars(select(Training))).all()


def by_kubectl(cluster: FakeApiServer, **given: str) -> str:
    """The shipped Job is applied, with other variables where they are ``given``; the fine-tune's id."""
    manifest = yaml.safe_load((ROOT / "k8s" / "jobs" / "finetune-cpu.yaml").read_text())
    for entry in manifest["spec"]["template"]["spec"]["containers"][0]["env"]:
        entry |= {"value": given[entry["name"]]} if entry["name"] in given else {}
    return f"ftjob-{cluster.apply(manifest)['metadata']['uid']}"


async def test_what_the_sdk_asks_for_becomes_a_job(house: House, cluster: FakeApiServer) -> None:
    made = await create(house, seed=3)
    assert (made.status, made.model, made.seed) == ("queued", BASE, 3)
    job = cluster.jobs[made.id]
    given = {
        entry["name"]: entry.get("value") for entry in job["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    assert (given["FINETUNE_SEED"], given["FINETUNE_MAX_SERVING_RANK"]) == ("3", "32")
    assert json.loads(job["metadata"]["annotations"]["onggi.dev/spec"])["person_id"]
    cancelled = await house.sdk().fine_tuning.jobs.cancel(made.id)
    assert (cancelled.status, cluster.jobs) == ("cancelled", {})


@pytest.mark.parametrize(
    ("request_", "code", "sentence"),
    [
        ({"extra_body": {"onggi": {"max_length": 8192}}}, "does_not_fit", "Would fit: "),
        ({"extra_body": {"onggi": {"node_class": "rtx4090"}}}, None, "node class rtx4090 is not in this"),
        ({"extra_body": {"onggi": {"rank": 64}}}, None, "rank 64 is above max_serving_rank 32"),
        ({"model": "gpt-5"}, "model_not_found", "this installation serves Qwen2.5-7B-Instruct"),
    ],
)
async def test_what_cannot_be_trained_here_is_a_400_and_makes_nothing(
    house: House, cluster: FakeApiServer, request_: dict[str, Any], code: str | None, sentence: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=sentence) as refusal:
        await create(house, **request_)
    assert refusal.value.code == code
    assert cluster.jobs == {}
    assert (await house.get("/onggi/v1/bots"))["data"] == []


async def test_a_job_of_kubectls_is_an_owners_and_its_figures_are_kept(
    house: House, cluster: FakeApiServer
) -> None:
    job_id = by_kubectl(cluster)
    _, key = await house.member()
    assert [job["id"] for job in (await house.get(JOBS))["data"]] == [job_id]
    assert (await house.get(JOBS, key=key))["data"] == []
    step = {
        "stream": "training",
        "event": "step",
        "loss": 1.0,
        "learning_rate": 0.1,
        "tokens_per_second": 1.0,
    }
    lines = [
        json.dumps(step | {"step": number, "epoch": number / 10, "timestamp": f"2026-01-01T00:00:0{number}Z"})
        for number in (1, 2)
    ]
    pod = cluster.start_pod("finetune-cpu", log="\n".join(lines))

    await background.tell_gateways(house.control)
    [told] = await trainings(house)
    assert told.until is not None
    assert (told.job_id, told.person_id) == (job_id, None)
    cluster.end_pod(pod, 1)
    cluster.end_job("finetune-cpu", "Failed", "BackoffLimitExceeded")

    async def result_files() -> Any:
        return (await house.get(f"{JOBS}/{job_id}"))["result_files"]

    [figures] = await until(result_files)
    content = (await house.sdk().files.content(figures)).text
    assert [json.loads(line)["step"] for line in content.splitlines()] == [1, 2]
    await background.tell_gateways(house.control)
    assert await trainings(house) == []


async def upload(house: House, key: str) -> str:
    file = {"file": ("mine.jsonl", rows(20))}
    answer = await house.ask("POST", "/v1/files", files=file, data={"purpose": "fine-tune"}, key=key)
    return str(answer.json()["id"])


async def erase(house: House, person_id: str) -> Any:
    answer = await house.ask("DELETE", f"/onggi/v1/people/{person_id}/words")
    assert answer.is_success, answer.text
    return answer.json()


@pytest.mark.parametrize("store", ["s3://onggi", "$(STORE_URL)"])
async def test_a_job_of_kubectls_on_an_upload_ends_when_its_person_is_erased(
    house: House, cluster: FakeApiServer, store: str
) -> None:
    ben, key = await house.member()
    job_id = by_kubectl(cluster, FINETUNE_DATA=f"{store}/files/{await upload(house, key)}")
    cluster.start_pod("finetune-cpu")
    assert (await erase(house, ben))["waiting"] == []
    assert cluster.jobs == {}
    assert (await house.get(f"{JOBS}/{job_id}"))["status"] == "cancelled"


@pytest.mark.parametrize(("variable", "marked"), [("FINETUNE_DATA", True), ("FINETUNE_VALIDATION", False)])
async def test_a_version_of_kubectls_that_learned_from_an_upload_is_marked_and_one_judged_on_it_is_not(
    house: House, cluster: FakeApiServer, variable: str, marked: bool
) -> None:
    ben, key = await house.member()
    job_id = by_kubectl(cluster, **{variable: f"s3://onggi/files/{await upload(house, key)}"})
    owner = (await house.get("/onggi/v1/people/me"))["id"]
    async with house.database.session() as session:
        await bots.ensure(session, "support-bot", owner, BASE, "r")
        session.add(
            Version(bot="support-bot", number=1, person_id=owner, base=BASE, revision="r", rank=8, sha256="s",
                    job_id=job_id, dataset_digest="sha256:mine", note="What Ben said.")
        )  # fmt: skip
    cluster.end_job("finetune-cpu")
    assert house.control.runner is not None
    await asyncio.to_thread(house.control.runner.tick)
    cluster.delete("finetune-cpu")  # its time is over, and its record stays
    told = await erase(house, ben)
    assert told["versions"] == (["support-bot@1"] if marked else [])
    assert "Ben" not in (await house.get("/onggi/v1/versions/support-bot@1"))["note"]


async def test_an_api_server_that_is_away_is_a_503(house: House, cluster: FakeApiServer) -> None:
    cluster.away = True
    status, error = await house.refusal("GET", JOBS)
    assert (status, "the Kubernetes API server does not answer" in error["message"]) == (503, True)
    cluster.away = False
    await asyncio.sleep(0)
    assert (await house.get(JOBS))["data"] == []
