"""One card for training and serving: who gets it when, what callers are told meanwhile, what comes back."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx
import pytest
import torch

from tests.e2e.cluster import change
from tests.e2e.conftest import BASE, Onggi
from tests.e2e.fine_tunes import by_kubectl, create, ended, events, job, pods, upload, weights
from tests.e2e.kube import until
from tests.e2e.load import Background

pytestmark = pytest.mark.full
EIGHT_STEPS = {"FINETUNE_MAX_STEPS": "8", "FINETUNE_CHECKPOINT_EVERY": "1", "FINETUNE_SEED": "3"}
KILL_TRAINER = r"""
import os, pathlib
for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    words = path.read_bytes().split(b"\0")
    if b"jobs.finetune" in words and b"jobs.restart" not in words:
        os.kill(int(path.parent.name), 9)
"""


ONE_CARD = {"vllm__servers__main__gpu__count": "1", "jobs__gpu": "true", "gpu__discoverNodes": "true"}


@pytest.fixture(scope="module")
def one_card(onggi: Onggi) -> Iterator[Onggi]:
    """The release with serving and training on the node's only card; no fleet offers others."""
    change("remove", "fleet")
    change("gpus", "1", "--card", "rtx5090")
    onggi.upgrade(**ONE_CARD)
    yield onggi
    onggi.upgrade()


@dataclass(frozen=True)
class Answer:
    at: float
    status: int
    retry_after: str | None
    message: str


class Caller(Background):
    """Somebody who asks for one token every second, until the block ends."""

    def __init__(self, onggi: Onggi) -> None:
        self.answers: list[Answer] = []
        self._url, self._key = onggi.url("gateway"), onggi.owner_key

    def outages(self) -> list[float]:
        """Seconds from each first refusal to the next answer."""
        found, began = [], 0.0
        for answer in self.answers:
            if answer.status != 200 and not began:
                began = answer.at
            elif answer.status == 200 and began:
                found.append(round(answer.at - began, 1))
                began = 0.0
        return found

    def _run(self) -> None:
        body = {"model": BASE, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
        while not self._stop.wait(1):
            answer = httpx.post(
                f"{self._url}/v1/chat/completions",
                json=body,
                headers={"Authorization": f"Bearer {self._key}"},
                timeout=120,
            )
            message = "" if answer.is_success else answer.json()["error"]["message"]
            retry_after = answer.headers.get("retry-after")
            self.answers.append(Answer(time.monotonic(), answer.status_code, retry_after, message))


def answered(caller: Caller) -> Callable[[], bool]:
    return lambda: bool(caller.answers) and caller.answers[-1].status == 200


def test_training_takes_the_card_and_serving_comes_back_and_judges(
    one_card: Onggi, record_property: Callable[[str, object], None]
) -> None:
    rows = upload(one_card, learned=96)
    with Caller(one_card) as caller:
        until(answered(caller), 120, "serving before the training")
        made = create(one_card, rows, "card-bot")
        until(lambda: pods(one_card, made.id, "finetune"), 60, "the training's pod")
        until(lambda: caller.answers[-1].status == 503, 180, "serving to be preempted")
        done = ended(one_card, made.id, 1200)
        until(answered(caller), 300, "serving after the training")
    assert done["status"] == "succeeded", done
    refused = [answer for answer in caller.answers if answer.status != 200]
    assert {answer.status for answer in refused} == {503}
    assert all(answer.retry_after for answer in refused)
    assert any(": try again then." in answer.message for answer in refused), refused[-1]
    record_property("outages_seconds", caller.outages())
    print(f"outages while one card trained: {caller.outages()} s")
    [evaluated] = pods(one_card, made.id, "evaluate")
    assert "nvidia.com/gpu" not in str(evaluated["spec"]["containers"])
    version = one_card.control("GET", f"/onggi/v1/versions/{done['fine_tuned_model']}").json()
    assert version["state"] in ("passed", "refused"), "judged by the vLLM that came back"


def test_an_upgrade_completes_and_is_an_outage(
    one_card: Onggi, record_property: Callable[[str, object], None]
) -> None:
    with Caller(one_card) as caller:
        until(answered(caller), 120, "serving before the upgrade")
        [before] = one_card.vllm_pods(1)
        one_card.upgrade(vllm__servers__main__env__TRIED="again", **ONE_CARD)
        until(lambda: one_card.vllm_pods(1) != [before], 300, "another pod")
        until(answered(caller), 300, "serving after the upgrade")
    refused = [answer for answer in caller.answers if answer.status != 200]
    assert {answer.status for answer in refused} == {503}
    assert all(answer.retry_after for answer in refused)
    record_property("outages_seconds", caller.outages())
    print(f"outages while one card was upgraded: {caller.outages()} s")


def trained(onggi: Onggi, bot: str) -> str:
    """Start the CPU smoke Job of k8s/jobs, on the card; its id."""
    onggi.kube.kubectl("delete", "job", "finetune-cpu", "--ignore-not-found")
    onggi.kube.apply(by_kubectl(onggi, "finetune-cpu", bot, **EIGHT_STEPS))
    return f"ftjob-{onggi.kube.get('job', 'finetune-cpu')['metadata']['uid']}"


@pytest.mark.timeout(2400)
def test_a_killed_trainer_and_a_dead_pod_end_with_the_same_weights(
    one_card: Onggi, record_property: Callable[[str, object], None]
) -> None:
    calm = ended(one_card, trained(one_card, "calm-bot"))
    assert calm["status"] == "succeeded", calm
    with Caller(one_card) as caller:
        job_id = trained(one_card, "storm-bot")
        storm(one_card, job_id)
        done = ended(one_card, job_id)
    assert done["status"] == "succeeded", done
    record_property("outages_seconds", caller.outages())
    print(f"outages while a trainer and a pod died: {caller.outages()} s")
    expected, found = (weights(one_card, one["fine_tuned_model"]) for one in (calm, done))
    assert torch.equal(found, expected)
    told = [event["message"] for event in events(one_card, job_id)]
    assert any("starts again in its pod" in message for message in told), told
    assert sum("Step finetune began" in message for message in told) == 2, told
    one_card.kube.kubectl("delete", "job", "finetune-cpu")


def storm(onggi: Onggi, job_id: str) -> None:
    """Kill the trainer, which goes on in its pod, and then the pod."""

    def steps() -> int:
        if job(onggi, job_id) is None:
            return 0
        return len([event for event in events(onggi, job_id) if event["type"] == "metrics"])

    def running() -> str:
        [pod] = [
            pod["metadata"]["name"]
            for pod in pods(onggi, "finetune-cpu", "finetune")
            if pod["status"]["phase"] == "Running"
        ]
        return str(pod)

    until(lambda: steps() >= 2, 600, "two steps")
    first = running()
    onggi.kube.kubectl("exec", first, "-c", "finetune", "--", "python", "-c", KILL_TRAINER)
    until(lambda: steps() >= 4, 600, "steps after the trainer was killed")
    assert running() == first, "the pod keeps its card"
    onggi.kube.kubectl("delete", "pod", first, "--wait=false", "--grace-period=1")
