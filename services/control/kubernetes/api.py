"""The few calls of the Kubernetes API that the runner needs, as plain JSON. They block.

The official client connects and authenticates; its classes of objects are not used, for they would take a Job
apart and leave out what a newer API server knows and they do not.
"""

import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from services.control.kubernetes.marks import FINE_TUNE, Object
from services.control.runner import RunnerUnavailable

SECONDS = 15
"""How long one call may take."""


class ClusterUnavailable(RunnerUnavailable):
    """The API server does not answer, or does not let control do its work."""


class ApiRefused(ClusterUnavailable):
    """The API server answered and said no."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"the Kubernetes API server answers {status}: {message}")
        self.status = status
        self.message = message


class Cluster:
    """A cluster by way of its API server, in one namespace.

    Inside a pod it is the pod's own, with the rights of its service account; else what KUBECONFIG says.
    """

    def __init__(self, namespace: str, owner_configmap: str) -> None:
        self._jobs = f"/apis/batch/v1/namespaces/{namespace}/jobs"
        self._core = f"/api/v1/namespaces/{namespace}"
        self._owner_configmap = owner_configmap
        self._connecting = threading.Lock()
        self._connected: Any = None

    def jobs(self) -> list[Object]:
        """Every Job that is marked as a fine-tune's."""
        return self._list(self._jobs, {"labelSelector": FINE_TUNE})

    def pods(self) -> list[Object]:
        """Every pod of such Jobs."""
        return self._list(f"{self._core}/pods", {"labelSelector": FINE_TUNE})

    def events(self) -> list[Object]:
        """The namespace's events, which Kubernetes keeps for an hour."""
        return self._list(f"{self._core}/events")

    def nodes(self) -> list[Object]:
        """The cluster's nodes."""
        return self._list("/api/v1/nodes")

    def owner(self) -> Object | None:
        """An ownerReference to the release's owner, so that Jobs go with it; None without one."""
        if not self._owner_configmap:
            return None
        found = json.loads(self._ask("GET", f"{self._core}/configmaps/{self._owner_configmap}"))
        uid = found["metadata"]["uid"]
        return {"apiVersion": "v1", "kind": "ConfigMap", "name": self._owner_configmap, "uid": uid}

    def create(self, job: Object) -> None:
        """Make a Job; one of that name already there is no error."""
        with _unless(409):
            self._ask("POST", self._jobs, body=job)

    def delete(self, name: str) -> None:
        """Delete a Job with its pods; none of that name is no error."""
        with _unless(404):
            self._ask("DELETE", f"{self._jobs}/{name}", {"propagationPolicy": "Foreground"})

    def log(self, pod: str, container: str, since_seconds: int | None) -> str | None:
        """What a container printed, or the end of it; None when it cannot be had now."""
        options = {"container": container} | ({"sinceSeconds": str(since_seconds)} if since_seconds else {})
        try:
            return self._ask("GET", f"{self._core}/pods/{pod}/log", options).decode(errors="replace")
        except ApiRefused as refused:
            # A container that has not begun, a pod that is gone, a node that does not answer.
            if refused.status in (400, 404, 500, 502, 503, 504):
                return None
            raise

    def _list(self, path: str, query: Mapping[str, str] | None = None) -> list[Object]:
        found: list[Object] = json.loads(self._ask("GET", path, query))["items"]
        return found

    def _ask(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Object | None = None
    ) -> bytes:
        from urllib3.exceptions import HTTPError

        client = self._client()
        headers = {"Accept": "application/json, */*", "Content-Type": "application/json"}
        request = client.param_serialize(
            method, path, query_params=list((query or {}).items()), header_params=headers, body=body,
            auth_settings=["BearerToken"],
        )  # fmt: skip
        try:
            answer = client.call_api(*request, _request_timeout=SECONDS)
            data: bytes = answer.read()
        except (HTTPError, OSError) as error:
            raise ClusterUnavailable(f"the Kubernetes API server does not answer: {error}") from None
        if not 200 <= answer.status < 300:
            raise ApiRefused(answer.status, _message(data) or answer.reason)
        return data

    def _client(self) -> Any:
        with self._connecting:
            if self._connected is None:
                self._connected = _connect()
            return self._connected


def _connect() -> Any:
    from kubernetes import client, config

    configuration = client.Configuration()
    configuration.retries = 1
    load: Any = config
    try:
        if os.environ.get("KUBERNETES_SERVICE_HOST"):
            load.load_incluster_config(configuration)
        else:
            # The client's own default is what KUBECONFIG was when it was imported.
            load.load_kube_config(os.environ.get("KUBECONFIG"), client_configuration=configuration)
    except config.ConfigException as error:
        raise ClusterUnavailable(f"there is no Kubernetes to run Jobs in: {error}") from None
    return client.ApiClient(configuration)


@contextmanager
def _unless(*expected: int) -> Iterator[None]:
    """End the block where the answer has one of the ``expected`` statuses."""
    try:
        yield
    except ApiRefused as refused:
        if refused.status not in expected:
            raise


def _message(data: bytes) -> str:
    try:
        return str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        return ""
