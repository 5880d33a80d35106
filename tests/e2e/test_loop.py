"""One turn of the loop on the cluster, by the CronJobs that the chart has, as ``make loop`` plays it.

While the bot learns, pods are deleted that talk to nobody: conversations notice nothing.
"""

import itertools
import json
import random
from functools import partial
from typing import Any

import httpx
import pytest
from rich.console import Console

from common.errors import UserError
from services.local import acts
from services.local.acts import Cron, Loop
from services.local.api import Api
from tests.accidents import KILLS, Accidents, Kill, Patient, again, assert_nothing_came_of_it
from tests.cluster.place import HTTP_PORT
from tests.e2e.conftest import BASE, HOST, RELEASE, Onggi
from tests.e2e.kube import until

HTTP = f"http://127.0.0.1:{HTTP_PORT}"
TALK_TO_NOBODY = ("control", "mlflow", "retrain", "finetune", "evaluate", "promote")


class AtTheIngress(httpx.HTTPTransport):
    """Asks for the host that the Ingress has, which no name server knows."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.headers["Host"] = HOST
        return super().handle_request(request)


def is_chat(request: httpx.Request) -> bool:
    return request.url.path == "/v1/chat/completions"


def cron(onggi: Onggi) -> Cron:
    """Runs a CronJob of the chart's now, to its end."""
    numbers = itertools.count(1)

    def run(name: str) -> None:
        job = f"{name}-{next(numbers)}"
        onggi.kube.kubectl("create", "job", job, f"--from=cronjob/{RELEASE}-{name}")

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


def running(onggi: Onggi) -> dict[str, Kill]:
    """The pods that talk to nobody and run now, by part; to kill one leaves it no time to say good-bye."""

    def kill(pod: str) -> None:
        onggi.kube.kubectl(
            "delete", "pod", pod, "--grace-period=0", "--force", "--wait=false", "--ignore-not-found"
        )

    pods = [pod for pod in onggi.kube.items("pods") if pod["status"]["phase"] == "Running"]
    named = {part(pod): pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]}
    return {name: partial(kill, pod) for name, pod in named.items() if name in TALK_TO_NOBODY}


@pytest.fixture(scope="module")
def loop(onggi: Onggi) -> Loop:
    """The people, and a bot that serves its base."""
    onggi.upgrade(jobs__retrain__recipe="demo", jobs__retrain__minimum="60")
    transport = Patient(AtTheIngress(), at_once=is_chat)

    def open_api(credential: str) -> Api:
        return Api(HTTP, credential, transport)

    return acts.gather(open_api, onggi.owner_key, BASE, again(cron(onggi)), Console())


@pytest.mark.timeout(3600)
def test_corrections_become_a_better_model_that_is_promoted_whatever_is_killed_meanwhile(
    loop: Loop, onggi: Onggi
) -> None:
    accidents = Accidents(partial(running, onggi), random.Random())

    def learn(turn: Loop) -> None:
        with accidents.happening():
            acts.learn(turn)

    acts.play(loop, learn, acts.examine)
    print(f"killed {', '.join(accidents.killed)}; {json.dumps(loop.figures, indent=2)}")
    acts.judge(loop.figures, acts.learn, acts.examine)
    assert len(accidents.killed) == KILLS
    assert_nothing_came_of_it(loop)
    assert not {"retrain", "finetune", "evaluate", "promote"} & set(running(onggi)), "no orphans"


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_then_poison_is_refused_and_the_bot_is_retrained_without_whom_is_erased(loop: Loop) -> None:
    acts.play(loop, acts.poison, acts.erase)
    print(json.dumps(loop.figures, indent=2))
    acts.judge(loop.figures)
