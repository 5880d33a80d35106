"""vLLM's pods come and go under constant streamed load, and nobody who is talking notices."""

import time
from collections.abc import Iterator

import pytest

from tests.e2e.cluster import change
from tests.e2e.conftest import BASE, Onggi
from tests.e2e.fine_tunes import create, ended, loaded, upload
from tests.e2e.kube import until
from tests.e2e.load import Load


@pytest.fixture(scope="module")
def rows(onggi: Onggi) -> dict[str, str]:
    return upload(onggi, learned=8)


TWO_CARDS = {
    f"vllm__servers__main__{key}": value
    for key, value in {"gpu__count": "1", "gpu__cards": "2", "replicas": "2"}.items()
}


@pytest.fixture(scope="module")
def two_replicas(onggi: Onggi) -> Iterator[None]:
    """Two ready vLLM pods on the node's two cards, rolled as such pods are; one without a card afterwards."""
    change("remove", "fleet")
    change("gpus", "2", "--card", "rtx5090")
    onggi.upgrade(**TWO_CARDS)
    onggi.vllm_pods(2)
    yield
    onggi.upgrade()


def test_a_deleted_pod_fails_no_request_and_breaks_no_stream(onggi: Onggi, two_replicas: None) -> None:
    with Load(onggi.url("gateway"), onggi.owner_key, BASE) as load:
        until(lambda: len(load.outcomes) >= 8, 120, "the first answers")
        onggi.kube.kubectl("delete", "pod", onggi.vllm_pods(2)[0], "--wait=false")
        gone = time.monotonic()
        onggi.vllm_pods(2, seconds=300)
        until(lambda: load.whole_since(gone) >= 16, 180, "answers after the pod went")
    assert not load.failed, load.failed[:5]


@pytest.mark.full
def test_a_rolling_upgrade_of_gateway_and_vllm_fails_no_request(onggi: Onggi, two_replicas: None) -> None:
    onggi.upgrade(gateway__replicas="2", **TWO_CARDS)
    with Load(onggi.url("gateway"), onggi.owner_key, BASE) as load:
        until(lambda: len(load.outcomes) >= 8, 120, "the first answers")
        for name in ("deployment/onggi-gateway", "deployment/onggi-vllm-main"):
            onggi.kube.kubectl("rollout", "restart", name)
            onggi.kube.kubectl("rollout", "status", name, "--timeout=600s", timeout=650)
        last = time.monotonic()
        until(lambda: load.whole_since(last) >= 16, 180, "answers after the upgrade")
    assert not load.failed, load.failed[:5]


def test_a_new_version_answers_on_every_replica_within_five_seconds(
    onggi: Onggi, two_replicas: None, rows: dict[str, str]
) -> None:
    done = ended(onggi, create(onggi, rows, "served-bot").id)
    version = done["fine_tuned_model"]
    generation = onggi.control("GET", "/onggi/v1/bots/served-bot").json()["generation"]
    with Load(onggi.url("gateway"), onggi.owner_key, BASE, people=1) as load:
        until(lambda: len(load.outcomes) >= 2, 120, "the first answers")
        served = onggi.control(
            "POST",
            "/onggi/v1/bots/served-bot/promote",
            {"version": version, "generation": generation, "force": True, "reason": "a test"},
        )
        assert served.is_success, served.text
        changed = time.monotonic()
        pods = [pod["status"]["podIP"] for pod in onggi.kube.pods("vllm")]
        assert len(pods) == 2
        until(lambda: all(version in loaded(address) for address in pods), 5, f"{version} on both replicas")
        answer = onggi.sdk().chat.completions.create(
            model="served-bot", messages=[{"role": "user", "content": "What do you sell?"}], max_tokens=4
        )
        assert answer.model == version
        until(lambda: load.whole_since(changed) >= 2, 120, "answers since")
    assert not load.failed, load.failed[:5]
