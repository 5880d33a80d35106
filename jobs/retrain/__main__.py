"""Train a bot anew on what people said about its answers, when enough of them said something.

    python -m jobs.retrain                      # every bot that is due; a CronJob runs it
    python -m jobs.retrain --bot support-bot --dry-run
    python -m jobs.retrain --bot support-bot --force

It reads reviewed opinions through control, makes a dataset of them (jobs.curate) and asks control for a
fine-tune of the bot's base on all of it; what that makes is judged and put on trial by others. Run it as
often as you like, twice at once and after being killed: a dataset is trained on once. Quiet hours and a
month's GPU-hours say when it may begin. Exit codes: 0 done or nothing to do, 2 configuration or something
refused, 1 control, MLflow or the store is away, worth a retry.
"""

import sys
from datetime import UTC, datetime

from common import logging
from common.errors import run
from common.job_config import parse
from jobs.curate.curating import connect
from jobs.each_bot import each_bot
from jobs.retrain.config import RetrainConfig
from jobs.retrain.retraining import Outcome, retrain


def main() -> None:
    """Read the configuration, retrain what is due, say what became of it."""
    config = parse(RetrainConfig, sys.argv[1:], prog="python -m jobs.retrain")
    logging.configure("retrain")
    control = connect(config)
    bots = [config.bot] if config.bot else control.bots()
    each_bot(bots, lambda bot: told(retrain(control, bot, config, datetime.now(UTC))))


def told(outcome: Outcome) -> str:
    """What became of a bot, for people."""
    return f"{outcome.state}: {outcome.sentence}"


if __name__ == "__main__":
    run(main)
