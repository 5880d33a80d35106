"""One turn of the loop while the parts are killed that everybody talks to: who asks again loses nothing."""

import random
from collections.abc import Iterator
from functools import partial

import pytest
from rich.console import Console

from services.local import acts
from services.local.api import Api
from tests.accidents import Accidents, Patient, again, assert_nothing_came_of_it
from tests.e2e.conftest import BASE, Onggi, trusted
from tests.e2e.namespaces import restricted
from tests.e2e.turns import HTTP, STEPS, AtTheIngress, cron, running

pytestmark = pytest.mark.full
HOST = "kills.test"
ALL_TALK_TO = {"gateway", "vllm", "store-postgresql"}


@pytest.fixture
def another(onggi: Onggi, without_main: None) -> Iterator[Onggi]:
    """An installation in which no bot has learned anything yet."""
    with restricted(onggi.kube, "onggi-kills") as kube:
        trusted(kube)
        more = {
            "ingress.hosts[0]": HOST,
            "ingress.tls.existingSecret": "",
            "jobs.retrain.recipe": "demo",
            "jobs.retrain.minimum": "60",
        }
        release = Onggi(kube, onggi.values | more)
        kube.helm("install", *release.arguments("--wait", "--timeout", "10m"), timeout=700)
        yield release


@pytest.mark.timeout(3600)
def test_killed_database_gateway_and_vllm_change_neither_decision_nor_count(
    another: Onggi,
) -> None:
    accidents = Accidents(partial(running, another, ALL_TALK_TO), random.Random())
    transport = Patient(AtTheIngress(HOST))
    turn = acts.gather(
        lambda credential: Api(HTTP, credential, transport),
        another.owner_key,
        BASE,
        again(cron(another)),
        Console(),
    )
    with accidents.happening():
        acts.learn(turn)
    print(f"killed {', '.join(accidents.killed)}; {turn.figures}")
    assert set(accidents.killed) == ALL_TALK_TO
    assert_nothing_came_of_it(turn)
    assert not running(another, STEPS), "no orphans"
