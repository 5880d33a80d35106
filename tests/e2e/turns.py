"""Turns of the loop on the cluster: its CronJobs, its Ingress, and pods that are killed meanwhile."""

import itertools
from collections.abc import Collection
from functools import partial
from typing import Any

import httpx

from common.errors import UserError
from services.local.acts import Cron
from tests.accidents import Kill
from tests.cluster.place import HTTP_PORT
from tests.e2e.conftest import Onggi
from tests.e2e.kube import until

HTTP = f"http://127.0.0.1:{HTTP_PORT}"
STEPS = frozenset({"retrain", "finetune", "evaluate", "promote"})
"""The jobs of a turn, one after the other."""


class AtTheIngress(httpx.HTTPTransport):
    """Asks for ``host``, which the Ingress has and no name server knows."""

    def __init__(self, host: str) -> None:
        super().__init__()
        self._host = host

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.headers["Host"] = self._host
        return super().handle_request(request)


def cron(onggi: Onggi) -> Cron:
    """Runs a CronJob of the chart's now, to its end."""
    numbers = itertools.count(1)

    def run(name: str) -> None:
        job = f"{name}-{next(numbers)}"
        onggi.kube.kubectl("create", "job", job, f"--from=cronjob/{onggi.fullname}-{name}")

        def ended() -> dict[str, Any] | None:
            conditions = onggi.kube.get("job", job).get("status", {}).get("conditions", [])
            return next((one for one in conditions if one["type"] in ("Complete", "Failed")), None)

        how = until(ended, 300, f"the end of Job {job}")
        if how["type"] == "Failed":
            raise UserError(f"Job {job} failed: {how['message']}")
        print(onggi.kube.kubectl("logs", f"job/{job}", "--tail=3"))

    return run


def part(pod: dict[str, Any]) -> str:
    """What a pod is: a component, a step of a fine-tune, or a scheduled job."""
    labels = pod["metadata"]["labels"]
    names = ("onggi.dev/step", "onggi.dev/job", "app.kubernetes.io/component")
    return next((str(labels[name]) for name in names if name in labels), "")


def running(onggi: Onggi, parts: Collection[str]) -> dict[str, Kill]:
    """Those of ``parts`` whose pod runs now; to kill it leaves it no time to say good-bye."""

    def kill(pod: str) -> None:
        onggi.kube.kubectl(
            "delete", "pod", pod, "--grace-period=0", "--force", "--wait=false", "--ignore-not-found"
        )

    pods = [pod for pod in onggi.kube.items("pods") if pod["status"]["phase"] == "Running"]
    named = {part(pod): pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]}
    return {name: partial(kill, pod) for name, pod in named.items() if name in parts}
