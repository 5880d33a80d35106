"""``make loop``: one turn of the loop on one machine, by simulated raters, in three acts.

Raters correct what the base does not know; ``python -m jobs.retrain`` and ``python -m jobs.promote`` run as
a cron would run them; the version they make is promoted on what the raters think of it. Then somebody
malicious "corrects" everything, and what comes of that is refused. Then a rater is erased, and the bot is
retrained without their words. Somebody goes on chatting through all of it. Prints one JSON line last, and
exits 0 only if every promise was kept.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from common.errors import UserError
from common.models import BaseModel
from services.local import acts, demo, state
from services.local import installation as parts
from services.local.acts import Cron
from services.local.api import Api
from services.local.installation import Installation
from services.local.processes import Processes, Service

PROMOTED_WITHIN = 600
"""Seconds from the first rating on."""


def main() -> None:
    """Start everything in a folder of its own, play, stop everything."""
    console = Console(stderr=True)
    with platform(console) as installation:
        url, key = installation.gateway_url, installation.secrets.api_key
        cron = local_cron(installation)
        loop = acts.gather(lambda credential: Api(url, credential), key, demo.BASE, cron, console)
        acts.play(loop)
    print(json.dumps(loop.figures))
    acts.judge(loop.figures)
    judge_time(loop.figures["seconds_first_rating_to_promotion"])


def judge_time(seconds: float) -> None:
    """Hold the first act to its time, which two quiet cores keep.

    Raises:
        UserError: it took longer.
    """
    if seconds > PROMOTED_WITHIN:
        raise UserError(
            f"everything held, but {seconds:.0f} s lay between the first rating and the promotion, more than "
            f"{PROMOTED_WITHIN}: play it again when the machine has nothing else to do"
        )


@contextmanager
def platform(console: Console) -> Iterator[Installation]:
    """The demo's parts but the page, running in a new state folder; stopped at the end, the logs stay."""
    folder = state.folder("loop")
    processes = Processes(folder)
    processes.stop()
    shutil.rmtree(folder, ignore_errors=True)
    demo.check_disk(folder)
    installation = Installation.open(folder)
    started = services(installation, demo.fetch_model(console))
    try:
        for service in started:
            processes.start(service)
        for service in started:
            processes.wait(service)
        yield installation
    finally:
        processes.stop()


def services(installation: Installation, model: BaseModel) -> list[Service]:
    """The processes that the loop needs."""
    api, vllm = parts.training_api(installation, model), parts.vllm(installation, model.path)
    return [parts.mlflow(installation), api, vllm]


def local_cron(installation: Installation) -> Cron:
    """Jobs as subprocesses, with the settings that the chart's CronJobs get."""
    settings = {
        "CONTROL_URL": installation.gateway_url,
        "CONTROL_TOKEN": installation.secrets.control_token,
        "MLFLOW_TRACKING_URI": installation.mlflow_url,
        "RETRAIN_RECIPE": "demo",
    }

    def run(name: str) -> None:
        command = [sys.executable, "-m", f"jobs.{name}"]
        ended = subprocess.run(command, cwd=parts.ROOT, env={**os.environ, **settings}, check=False)
        if ended.returncode:
            raise UserError(f"python -m jobs.{name} ended with {ended.returncode}: see the lines above")

    return run
