"""One turn of the loop on the cluster, by the CronJobs that the chart has, as ``make loop`` plays it.

While the bot learns, pods are deleted that talk to nobody: conversations notice nothing.
"""

import json
import random
from functools import partial

import httpx
import pytest
from rich.console import Console

from services.local import acts
from services.local.acts import Loop
from services.local.api import Api
from tests.accidents import KILLS, Accidents, Patient, again, assert_nothing_came_of_it
from tests.e2e.conftest import BASE, HOST, Onggi
from tests.e2e.turns import HTTP, STEPS, AtTheIngress, cron, running

TALK_TO_NOBODY = {"control", "mlflow", *STEPS}


def is_chat(request: httpx.Request) -> bool:
    return request.url.path == "/v1/chat/completions"


@pytest.fixture(scope="module")
def loop(onggi: Onggi) -> Loop:
    """The people, and a bot that serves its base."""
    onggi.upgrade(jobs__retrain__recipe="demo", jobs__retrain__minimum="60")
    transport = Patient(AtTheIngress(HOST), at_once=is_chat)

    def open_api(credential: str) -> Api:
        return Api(HTTP, credential, transport)

    return acts.gather(open_api, onggi.owner_key, BASE, again(cron(onggi)), Console())


@pytest.mark.timeout(3600)
def test_corrections_become_a_better_model_that_is_promoted_whatever_is_killed_meanwhile(
    loop: Loop, onggi: Onggi
) -> None:
    accidents = Accidents(partial(running, onggi, TALK_TO_NOBODY), random.Random())

    def learn(turn: Loop) -> None:
        with accidents.happening():
            acts.learn(turn)

    acts.play(loop, learn, acts.examine)
    print(f"killed {', '.join(accidents.killed)}; {json.dumps(loop.figures, indent=2)}")
    acts.judge(loop.figures, acts.learn, acts.examine)
    assert len(accidents.killed) == KILLS
    assert_nothing_came_of_it(loop)
    assert not running(onggi, STEPS), "no orphans"


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_then_poison_is_refused_and_the_bot_is_retrained_without_whom_is_erased(loop: Loop) -> None:
    acts.play(loop, acts.poison, acts.erase)
    print(json.dumps(loop.figures, indent=2))
    acts.judge(loop.figures)
