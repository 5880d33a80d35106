"""kubectl and helm on the tests' cluster, with what tests ask of them."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Kube:
    """The cluster's administrator, looking at one namespace."""

    kubectl_path: Path
    helm_path: Path
    kubeconfig: Path
    namespace: str

    def kubectl(self, *arguments: str, text: str | None = None, timeout: float = 120) -> str:
        """What kubectl prints; an error fails the test with what it said."""
        return self._run([str(self.kubectl_path), "-n", self.namespace, *arguments], text, timeout)

    def helm(self, *arguments: str, timeout: float = 900) -> str:
        """What helm prints; an error fails the test with what it said."""
        return self._run([str(self.helm_path), "-n", self.namespace, *arguments], None, timeout)

    def refused(self, *arguments: str, text: str | None = None) -> str:
        """What kubectl or helm (the first word) says of something that must not work."""
        program = {"kubectl": self.kubectl_path, "helm": self.helm_path}[arguments[0]]
        done = self._start([str(program), "-n", self.namespace, *arguments[1:]], text, 300)
        assert done.returncode, f"{' '.join(arguments)} was expected to fail:\n{done.stdout}"
        return done.stderr

    def get(self, *arguments: str) -> dict[str, Any]:
        """``kubectl get`` as JSON."""
        return dict(json.loads(self.kubectl("get", *arguments, "-o", "json")))

    def items(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        """All objects of ``kind`` that have the labels."""
        chosen = ["-l", selector] if selector else []
        return list(self.get(kind, *chosen)["items"])

    def names(self, kind: str, selector: str = "") -> set[str]:
        """The names of all objects of ``kind`` that have the labels."""
        return {one["metadata"]["name"] for one in self.items(kind, selector)}

    def pods(self, component: str) -> list[dict[str, Any]]:
        """A component's pods that are not on their way out."""
        found = self.items("pods", f"app.kubernetes.io/component={component}")
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def apply(self, manifest: dict[str, Any] | list[dict[str, Any]]) -> None:
        """Create or change objects."""
        listed = manifest if isinstance(manifest, list) else [manifest]
        self.kubectl(
            "apply", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": listed})
        )

    def sql(self, pod: str, user: str, statement: str) -> str:
        """What PostgreSQL in ``pod`` answers, without frills."""
        psql = ("psql", "-h", "127.0.0.1", "-U", user, "-tAc", statement)
        return self.kubectl("exec", pod, "--", *psql).strip()

    def service(self, name: str, port: int) -> str:
        """The address of a Service, which the node reaches like a pod does."""
        return f"http://{self.get('service', name)['spec']['clusterIP']}:{port}"

    @contextmanager
    def forwarded(self, service: str, port: int) -> Iterator[str]:
        """A Service's address on this machine, by ``kubectl port-forward``, while the block lasts."""
        command = [str(self.kubectl_path), "-n", self.namespace, "port-forward"]
        command += [f"service/{service}", f":{port}"]
        environ = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as forward:
            assert forward.stdout
            try:
                said = forward.stdout.readline()
                assert said.startswith("Forwarding from "), said
                yield f"http://{said.split()[2]}"
            finally:
                forward.terminate()

    def secret(self, name: str, key: str) -> str:
        """A value of a Secret."""
        import base64

        return base64.b64decode(self.get("secret", name)["data"][key]).decode()

    def _run(self, command: list[str], text: str | None, timeout: float) -> str:
        done = self._start(command, text, timeout)
        assert not done.returncode, f"`{' '.join(command)}` said:\n{done.stderr}\n{done.stdout[-2000:]}"
        return done.stdout

    def _start(
        self, command: list[str], text: str | None, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        environ = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        return subprocess.run(
            command, input=text, env=environ, capture_output=True, text=True, timeout=timeout, check=False
        )


def until(found: Callable[[], T | None], seconds: float, what: str) -> T:
    """Ask ``found`` twice a second until it gives something true; ``what`` says what was waited for."""
    deadline = time.monotonic() + seconds
    while True:
        value = found()
        if value:
            return value
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.5)
