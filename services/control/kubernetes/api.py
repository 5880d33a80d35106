"""The few calls of the Kubernetes API that the runner needs, as plain JSON. They block."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
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
        self._namespace = namespace
        self._owner_configmap = owner_configmap
        self._connecting = threading.Lock()

    def jobs(self) -> list[Object]:
        """Every Job that is marked as a fine-tune's."""
        return self._list(self._batch.list_namespaced_job, self._namespace, label_selector=FINE_TUNE)

    def pods(self) -> list[Object]:
        """Every pod of such Jobs."""
        return self._list(self._core.list_namespaced_pod, self._namespace, label_selector=FINE_TUNE)

    def events(self) -> list[Object]:
        """The namespace's events, which Kubernetes keeps for an hour."""
        return self._list(self._core.list_namespaced_event, self._namespace)

    def nodes(self) -> list[Object]:
        """The cluster's nodes."""
        return self._list(self._core.list_node)

    def owner(self) -> Object | None:
        """An ownerReference to the release's owner, so that Jobs go with it; None without one."""
        if not self._owner_configmap:
            return None
        found = self._ask(self._core.read_namespaced_config_map, self._owner_configmap, self._namespace)
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": self._owner_configmap,
            "uid": json.loads(found)["metadata"]["uid"],
        }

    def create(self, job: Object) -> None:
        """Make a Job; one of that name already there is no error."""
        with _missing(409):
            self._ask(self._batch.create_namespaced_job, self._namespace, job)

    def delete(self, name: str) -> None:
        """Delete a Job with its pods; none of that name is no error."""
        with _missing(404):
            self._ask(
                self._batch.delete_namespaced_job, name, self._namespace, propagation_policy="Foreground"
            )

    def log(self, pod: str, container: str, since_seconds: int | None) -> str:
        """What a container printed, or the end of it; empty when it is gone or has not begun."""
        options = {"container": container} | ({"since_seconds": since_seconds} if since_seconds else {})
        data = b""
        with _missing(400, 404):
            data = self._ask(self._core.read_namespaced_pod_log, pod, self._namespace, **options)
        return data.decode(errors="replace")

    @cached_property
    def _client(self) -> Any:
        from kubernetes import client, config

        configuration = client.Configuration()
        load: Any = config
        try:
            if os.environ.get("KUBERNETES_SERVICE_HOST"):
                load.load_incluster_config(configuration)
            else:
                load.load_kube_config(client_configuration=configuration)
        except config.ConfigException as error:
            raise ClusterUnavailable(f"there is no Kubernetes to run Jobs in: {error}") from None
        configuration.retries = 1
        return client.ApiClient(configuration)

    @property
    def _core(self) -> Any:
        from kubernetes import client

        with self._connecting:
            return client.CoreV1Api(self._client)

    @property
    def _batch(self) -> Any:
        from kubernetes import client

        with self._connecting:
            return client.BatchV1Api(self._client)

    def _list(self, call: Callable[..., Any], *values: Any, **options: Any) -> list[Object]:
        found: list[Object] = json.loads(self._ask(call, *values, **options))["items"]
        return found

    def _ask(self, call: Callable[..., Any], *values: Any, **options: Any) -> bytes:
        """The answer's bytes: the client's own classes would be slower to make, and to read, than JSON."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        try:
            answer = call(*values, **options, _preload_content=False, _request_timeout=SECONDS)
            data: bytes = answer.data
        except ApiException as error:
            raise ApiRefused(error.status or 0, _message(error)) from None
        except (HTTPError, OSError) as error:
            raise ClusterUnavailable(f"the Kubernetes API server does not answer: {error}") from None
        return data


@contextmanager
def _missing(*expected: int) -> Iterator[None]:
    """Let the block end where the answer has one of the ``expected`` statuses."""
    try:
        yield
    except ApiRefused as refused:
        if refused.status not in expected:
            raise


def _message(error: Any) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (ValueError, KeyError, TypeError):
        return str(error.reason)
