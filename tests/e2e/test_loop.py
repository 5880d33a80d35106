"""One turn of the loop on the cluster, by the CronJobs that the chart has, as ``make loop`` plays it."""

import itertools
import json
from collections.abc import Callable

import httpx
import pytest
from rich.console import Console

from services.local import acts
from services.local.acts import Loop
from services.local.api import Api
from tests.cluster.place import HTTP_PORT
from tests.e2e.conftest import BASE, HOST, RELEASE, Onggi

HTTP = f"http://127.0.0.1:{HTTP_PORT}"


class AtTheIngress(httpx.HTTPTransport):
    """Asks for the host that the Ingress has, which no name server knows."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.headers["Host"] = HOST
        return super().handle_request(request)


def cron(onggi: Onggi) -> Callable[[str], None]:
    """Runs a CronJob of the chart's now, to its end."""
    numbers = itertools.count(1)

    def run(name: str) -> None:
        job = f"{name}-{next(numbers)}"
        onggi.kube.kubectl("create", "job", job, f"--from=cronjob/{RELEASE}-{name}")
        onggi.kube.kubectl("wait", f"job/{job}", "--for=condition=complete", "--timeout=300s", timeout=320)
        print(onggi.kube.kubectl("logs", f"job/{job}", "--tail=3"))

    return run


@pytest.fixture(scope="module")
def loop(onggi: Onggi) -> Loop:
    """The people, and a bot that serves its base."""
    onggi.upgrade(jobs__retrain__recipe="demo", jobs__retrain__minimum="60")
    transport = AtTheIngress()

    def open_api(credential: str) -> Api:
        return Api(HTTP, credential, transport)

    return acts.gather(open_api, onggi.owner_key, BASE, cron(onggi), Console())


@pytest.mark.timeout(3600)
def test_corrections_become_a_better_model_that_is_promoted_by_what_people_think_of_it(loop: Loop) -> None:
    acts.play(loop, acts.learn, acts.examine)
    print(json.dumps(loop.figures, indent=2))
    acts.judge(loop.figures, acts.learn, acts.examine)


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_then_poison_is_refused_and_the_bot_is_retrained_without_whom_is_erased(loop: Loop) -> None:
    acts.play(loop, acts.poison, acts.erase)
    print(json.dumps(loop.figures, indent=2))
    acts.judge(loop.figures)
