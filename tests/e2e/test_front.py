"""A team without a GPU: the profile `front` before an endpoint and a PostgreSQL that are there already."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.cluster.place import HTTP_PORT
from tests.e2e.conftest import BASE, CHART, NAMESPACE, Onggi
from tests.e2e.kube import until
from tests.e2e.namespaces import restricted
from tests.e2e.standing import USER, database, standing

RELEASE, FRONT, HOST = "front", "onggi-front", "front.test"
PAUSE_SECONDS = 90
UPSTREAM = Path(__file__).with_name("pausing_upstream.py")


@pytest.fixture(scope="module")
def front(onggi: Onggi) -> Iterator[Onggi]:
    """The profile, with a real vLLM (the other release's) as the endpoint that is there already."""
    with restricted(onggi.kube, FRONT) as kube:
        ours = {key: value for key, value in onggi.values.items() if key.startswith(("global", "store.s3"))}
        tags = {
            f"{name}.image.tag": onggi.values[f"{name}.image.tag"] for name in ("gateway", "control", "ui")
        }
        cpu = {f"{name}.resources.requests.cpu": "20m" for name in ("gateway", "control", "ui", "store.s3")}
        kube.apply(database(FRONT, f"{onggi.values['store.postgresql.image.repository']}:18.6-trixie"))
        kube.kubectl("wait", "pod/postgresql", "--for=condition=Ready", "--timeout=120s", timeout=130)
        values = {
            **ours,
            **tags,
            **cpu,
            "store.postgresql.enabled": "false",
            "store.postgresql.existingSecret": "database",
            "vllm.external.url": f"http://onggi-vllm.{NAMESPACE}.svc:8000/v1",
            "vllm.external.defaultModel": BASE,
            "ingress.enabled": "true",
            "ingress.className": "traefik",
            "ingress.hosts[0]": HOST,
        }
        release = Onggi(kube, values, RELEASE, (CHART / "values" / "front.yaml",))
        kube.helm("install", *release.arguments("--wait", "--timeout", "5m"), timeout=400)
        yield release


def test_it_chats_and_remembers_in_a_database_of_the_teams_own(front: Onggi) -> None:
    said = front.kube.helm("test", RELEASE, "--logs", "--timeout", "5m")
    assert "Succeeded" in said
    asked = front.sdk().chat.completions.create(
        model=BASE, messages=[{"role": "user", "content": "Remember me."}], max_tokens=8, store=True
    )
    assert not front.kube.pods("store-postgresql"), "the bundled one is left out"
    statement = f"select status from completions where id = '{asked.id}'"
    assert front.kube.sql("postgresql", USER, statement) == "done"


@pytest.mark.full
def test_a_stream_lasts_over_a_pause_of_ninety_seconds(front: Onggi, onggi: Onggi) -> None:
    container = {
        "name": "upstream",
        "image": f"{onggi.values['global.imageRegistry']}/onggi-gateway:{onggi.values['gateway.image.tag']}",
        "command": ["python", "-c", UPSTREAM.read_text(), str(PAUSE_SECONDS)],
        "securityContext": {"runAsUser": 10001},
    }  # fmt: skip
    front.kube.apply(standing("pausing", 8000, {"containers": [container]}))
    front.kube.kubectl("wait", "pod/pausing", "--for=condition=Ready", "--timeout=120s", timeout=130)
    front.upgrade(vllm__external__url="http://pausing:8000/v1")
    headers = {"Host": HOST, "Authorization": f"Bearer {front.owner_key}"}
    body = {"model": "pausing", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
    came: dict[str, float] = {}
    with httpx.stream(
        "POST", f"http://127.0.0.1:{HTTP_PORT}/v1/chat/completions", json=body, headers=headers, timeout=200
    ) as answer:
        for line in answer.iter_lines():
            for word in ("before", "after", "[DONE]"):
                if word in line:
                    came[word] = time.monotonic()
    assert list(came) == ["before", "after", "[DONE]"]
    assert came["after"] - came["before"] >= PAUSE_SECONDS - 1, "the first word came as it was made"


def test_removed_it_leaves_no_pod_and_only_what_opens_its_data(front: Onggi) -> None:
    front.kube.helm("uninstall", RELEASE, "--wait", "--timeout", "5m")
    ours = "app.kubernetes.io/instance=front"
    until(lambda: not front.kube.items("pods", ours), 120, "no pod of the release")
    left = {kind: front.kube.names(kind, ours) for kind in ("secrets", "pvc", "configmaps", "services")}
    assert left == {
        "secrets": {"front-onggi-secrets", "front-onggi-store-s3"},
        "pvc": {"data-front-onggi-store-s3-0"},
        "configmaps": set(),
        "services": set(),
    }
