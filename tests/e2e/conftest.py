"""One cluster, one set of images, one installation: what every test of the platform starts from."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from openai import OpenAI

from common.registry import Registry
from tests.charts import helm
from tests.cluster.place import REGISTRY, place
from tests.e2e.certificates import self_signed
from tests.e2e.kube import Kube, until

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "onggi"
COMPONENTS = ("gateway", "control", "ui", "mlflow", "jobs", "vllm")
NAMESPACE = RELEASE = "onggi"
PARTS = ("dns", "storage", "metrics", "ingress", "gpus", "fleet", "apis")
BASE = "SmolLM2-135M-Instruct"
HOST = "onggi.test"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """By default only each part's main path: the rest is for `make e2e-full`."""
    for item in items:
        item.add_marker(pytest.mark.timeout(1200))  # pods start, models train
    if not os.environ.get("ONGGI_E2E_FULL"):
        for item in items:
            if item.get_closest_marker("full"):
                item.add_marker(pytest.mark.skip(reason="make e2e-full"))


@pytest.fixture(scope="session")
def kube() -> Kube:
    """The cluster, running."""
    subprocess.run([sys.executable, "-m", "tests.cluster", "up", *PARTS], check=True, cwd=ROOT)
    where = place()
    return Kube(where.bin / "kubectl", Path(helm.binary()), where.kubeconfig, NAMESPACE)


@pytest.fixture(scope="session")
def images(kube: Kube) -> dict[str, str]:
    """The values that name the images; what is new was built, and the cluster's registry has them all."""
    command = [sys.executable, "-m", "tests.cluster.images", "--registry", REGISTRY]
    done = subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    tags: dict[str, str] = json.loads(done.stdout)
    ours = {name.removesuffix("-cpu"): tag for name, tag in tags.items()}
    return {
        "global.imageRegistry": REGISTRY,
        **{f"{name}.image.tag": ours[name] for name in COMPONENTS},
        "store.postgresql.image.repository": f"{REGISTRY}/postgres",
        "store.s3.image.repository": f"{REGISTRY}/chrislusf/seaweedfs",
    }


@dataclass(frozen=True)
class Onggi:
    """An installed release: ``values`` over those of ``files``."""

    kube: Kube
    values: dict[str, str]
    release: str = RELEASE
    files: tuple[Path, ...] = (CHART / "values" / "cpu.yaml", ROOT / "tests" / "e2e" / "values.yaml")

    def arguments(self, *more: str, **values: str) -> list[str]:
        """The release, its chart and its values, for helm install or upgrade."""
        merged = self.values | {key.replace("__", "."): value for key, value in values.items()}
        return [
            self.release, str(CHART),
            *(word for file in self.files for word in ("-f", str(file))),
            *(word for key, value in merged.items() for word in ("--set", f"{key}={value}")),
            *more,
        ]  # fmt: skip

    def upgrade(self, **values: str) -> None:
        """Change some values (``gateway__replicas="2"``) and wait until everything is ready."""
        self.kube.helm("upgrade", *self.arguments("--wait", "--timeout", "10m", **values))

    @property
    def fullname(self) -> str:
        """What the names of its objects begin with."""
        return self.release if "onggi" in self.release else f"{self.release}-onggi"

    def url(self, component: str) -> str:
        """The address of a component's Service."""
        port = {"gateway": 8080, "control": 8080, "ui": 7860}[component]
        return self.kube.service(f"{self.fullname}-{component}", port)

    @contextmanager
    def registry(self) -> Iterator[Registry]:
        """MLflow as NOTES says how to reach it: it refuses hosts that it does not know."""
        with self.kube.forwarded(f"{self.fullname}-mlflow", 5050) as address:
            yield Registry(address)

    @property
    def owner_key(self) -> str:
        """The API key that the chart generated."""
        return self.kube.secret(f"{self.fullname}-secrets", "API_KEY")

    def sdk(self, component: str = "gateway") -> OpenAI:
        """The official SDK in front of gateway or control."""
        return OpenAI(
            base_url=f"{self.url(component)}/v1", api_key=self.owner_key, max_retries=0, timeout=120
        )

    def control(self, method: str, path: str, body: object = None) -> httpx.Response:
        """Ask control as the owner."""
        headers = {"Authorization": f"Bearer {self.owner_key}"}
        return httpx.request(method, f"{self.url('control')}{path}", json=body, headers=headers, timeout=30)

    def vllm_pods(self, number: int, seconds: float = 300) -> list[str]:
        """The names of vLLM's pods once so many are ready."""

        def ready() -> list[str]:
            pods = [pod for pod in self.kube.pods("vllm") if is_ready(pod)]
            return [pod["metadata"]["name"] for pod in pods] if len(pods) == number else []

        return until(ready, seconds, f"{number} ready vLLM pods")


def is_ready(pod: dict[str, object]) -> bool:
    """Whether a pod takes traffic."""
    conditions = pod.get("status", {}).get("conditions", [])  # type: ignore[attr-defined]
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


@pytest.fixture(scope="session")
def namespace(kube: Kube) -> Kube:
    """The platform's namespace, which only takes restricted pods; what an earlier run left is gone."""
    kube.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=300s", timeout=320)
    kube.kubectl("apply", "-f", str(ROOT / "k8s" / "namespaces" / "onggi.yaml"))
    return kube


@pytest.fixture(scope="session")
def certificate(namespace: Kube, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificate of the Ingress's host, which is in a Secret of the namespace."""
    folder = tmp_path_factory.mktemp("certificate")
    public, private = self_signed(HOST)
    (folder / "tls.crt").write_text(public)
    namespace.apply({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": "onggi-tls", "namespace": NAMESPACE},
        "stringData": {"tls.crt": public, "tls.key": private},
    })  # fmt: skip
    return folder / "tls.crt"


def trusted(kube: Kube) -> None:
    """ConfigMap ``ca-bundle``: this machine's way to its registries, which downloads go by."""
    bundle = Path(os.environ.get("SSL_CERT_FILE") or "/etc/ssl/certs/ca-certificates.crt").read_text()
    kube.apply({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "ca-bundle", "namespace": kube.namespace}, "data": {"ca.crt": bundle},
    })  # fmt: skip


@pytest.fixture(scope="session")
def onggi(namespace: Kube, images: dict[str, str], certificate: Path) -> Onggi:
    """The platform as `helm install --wait` leaves it."""
    kube = namespace
    release = Onggi(kube, images)
    trusted(kube)
    kube.helm("install", *release.arguments("--wait", "--timeout", "15m"), timeout=1000)
    return release


@pytest.fixture
def without_main(onggi: Onggi) -> Iterator[None]:
    """The whole platform's own server away, for its memory."""
    onggi.kube.kubectl("scale", "deployment/onggi-vllm-main", "--replicas=0")
    yield
    onggi.kube.kubectl("scale", "deployment/onggi-vllm-main", "--replicas=1")
    onggi.vllm_pods(1)
