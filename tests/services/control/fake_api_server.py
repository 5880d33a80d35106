"""A fake of the Kubernetes API at its HTTP edge: it keeps objects, and runs nothing.

Tests say what a cluster's controllers and kubelets would have made of a Job. The real ones are asked by
tests/e2e.
"""

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

Object = dict[str, Any]


class FakeApiServer:
    """The objects of one namespace, by kind and name."""

    def __init__(self, namespace: str = "onggi") -> None:
        self.namespace = namespace
        self.lock = threading.RLock()
        self.jobs: dict[str, Object] = {}
        self.pods: dict[str, Object] = {}
        self.nodes: list[Object] = []
        self.events: list[Object] = []
        self.configmaps: dict[str, Object] = {"onggi-owner": {"metadata": {"uid": "the-owner"}}}
        self.logs: dict[str, str] = {}
        self.refuses: tuple[int, str] | None = None
        """What is answered to a new Job instead."""
        self.away = False
        self.nodes_away = False
        """Whether no kubelet answers, so that there are no logs."""
        self.deleted: list[str] = []

    def apply(self, job: Object) -> Object:
        """Make a Job, as the API server does."""
        with self.lock:
            uid = str(uuid.uuid4())
            metadata = job["metadata"] | {"uid": uid, "creationTimestamp": now()}
            self.jobs[metadata["name"]] = job | {"metadata": metadata, "status": {}}
            return self.jobs[metadata["name"]]

    def start_pod(self, job_name: str, node: str = "gpu-1", log: str = "") -> Object:
        """A pod of that Job, running."""
        with self.lock:
            job = self.jobs[job_name]
            labels = job["spec"]["template"]["metadata"]["labels"]
            uid = str(uuid.uuid4())
            name = f"{job_name}-{uid[:5]}"
            self.pods[name] = {
                "metadata": {
                    "name": name,
                    "uid": uid,
                    "creationTimestamp": now(),
                    "labels": labels | {"batch.kubernetes.io/controller-uid": job["metadata"]["uid"]},
                },
                "spec": {"nodeName": node},
                "status": {
                    "phase": "Running",
                    "containerStatuses": [{"state": {"running": {"startedAt": now()}}}],
                },
            }
            self.logs[name] = log
            return self.pods[name]

    def end_pod(self, pod: Object, code: int, message: str = "", disrupted: str = "") -> None:
        """The pod's container ends with ``code``, having said ``message`` last."""
        terminated = {"exitCode": code, "startedAt": now(), "finishedAt": now(), "message": message}
        pod["status"] = {
            "phase": "Failed" if code else "Succeeded",
            "containerStatuses": [{"state": {"terminated": terminated}}],
            "conditions": [
                {
                    "type": "DisruptionTarget",
                    "status": "True",
                    "lastTransitionTime": now(),
                    "message": disrupted,
                }
            ]
            if disrupted
            else [],
        }

    def end_job(self, name: str, kind: str = "Complete", reason: str = "", message: str = "") -> None:
        """The Job gets its last condition."""
        condition = {"type": kind, "status": "True", "reason": reason, "message": message}
        self.jobs[name]["status"]["conditions"] = [condition | {"lastTransitionTime": now()}]

    def delete(self, name: str) -> None:
        """The Job goes, with its pods and with the Jobs that it owns."""
        with self.lock:
            self.deleted.append(name)
            uid = self.jobs.pop(name)["metadata"]["uid"]
            for pod_name, pod in list(self.pods.items()):
                if pod["metadata"]["labels"]["batch.kubernetes.io/controller-uid"] == uid:
                    del self.pods[pod_name]
            for other, job in list(self.jobs.items()):
                owners = job["metadata"].get("ownerReferences") or []
                if any(owner["uid"] == uid for owner in owners):
                    self.delete(other)

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        """The status and the JSON (or text) of one request."""
        words = path.strip("/").split("/")
        if words[:6] == ["apis", "batch", "v1", "namespaces", self.namespace, "jobs"]:
            return self._answer_jobs(method, words[6:], query, body)
        match words[3:] if words[2:3] == ["namespaces"] else words:
            case [self.namespace, "pods"]:
                return 200, {"items": _labelled(self.pods, query)}
            case [self.namespace, "pods", _, "log"] if self.nodes_away:
                return 500, {"message": "dial tcp 10.0.0.1:10250: connect: no route to host"}
            case [self.namespace, "pods", name, "log"] if name in self.logs:
                # Everything here was printed long ago.
                return 200, "" if "sinceSeconds" in query else self.logs[name]
            case [self.namespace, "events"]:
                return 200, {"items": self.events}
            case [self.namespace, "configmaps", name] if name in self.configmaps:
                return 200, self.configmaps[name]
            case ["api", "v1", "nodes"]:
                return 200, {"items": self.nodes}
        return 404, {"message": f"{path} is not there"}

    def _answer_jobs(
        self, method: str, name: list[str], query: dict[str, list[str]], body: Any
    ) -> tuple[int, Any]:
        match method, name:
            case "GET", []:
                return 200, {"items": _labelled(self.jobs, query)}
            case "POST", [] if self.refuses:
                return self.refuses[0], {"message": self.refuses[1]}
            case "POST", [] if body["metadata"]["name"] not in self.jobs:
                return 201, self.apply(body)
            case "POST", []:
                return 409, {"message": "already exists"}
            case "DELETE", [name] if name in self.jobs:
                self.delete(name)
                return 200, {}
        return 404, {"message": "not found"}


def now() -> str:
    """The time as Kubernetes writes it."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def node(name: str, product: str, memory_mib: int, cards: int = 1, labelled: int | None = None) -> Object:
    """A GPU node as feature discovery labels it; a mixed one has more ``cards`` than ``labelled``."""
    labels = {
        "nvidia.com/gpu.product": product,
        "nvidia.com/gpu.memory": str(memory_mib),
        "nvidia.com/gpu.count": str(cards if labelled is None else labelled),
        "nvidia.com/gpu.replicas": "1",
    }
    return {
        "metadata": {"name": name, "labels": labels},
        "status": {"capacity": {"nvidia.com/gpu": str(cards)}},
    }


@contextmanager
def running(kubeconfig: Path) -> Iterator[FakeApiServer]:
    """A fake on a port of its own, to which ``kubeconfig`` leads."""
    fake = FakeApiServer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(fake))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    context = {"name": "fake", "context": {"cluster": "fake", "user": "fake"}}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "fake",
        "contexts": [context],
        "clusters": [{"name": "fake", "cluster": {"server": address}}],
        "users": [{"name": "fake", "user": {"token": "t"}}],
    }
    kubeconfig.write_text(yaml.safe_dump(config))
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()


def _labelled(objects: dict[str, Object], query: dict[str, list[str]]) -> list[Object]:
    wanted = query.get("labelSelector", [""])[0]
    return [one for one in list(objects.values()) if wanted in one["metadata"].get("labels", {})]


def _handler(fake: FakeApiServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            url = urlsplit(self.path)
            if fake.away:
                self.connection.close()
                return
            with fake.lock:
                status, content = fake.answer(self.command, url.path, parse_qs(url.query), body)
                data = (content if isinstance(content, str) else json.dumps(content)).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = _serve

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    return Handler
