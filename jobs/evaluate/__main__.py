"""Judge a registered version through the vLLM that serves it, and say so in words.

    python -m jobs.evaluate --version support-bot@7 --data held_out.jsonl --output out

Losses come from vLLM itself, on the serving base and precision: held-out loss must fall against what the bot
serves now (one-sided 95 % bound, bootstrap by conversation), what it breaks must not surely outnumber what it
fixes, and the regression set must not get worse than with the base by more than a margin. And it must be the
adapter at all that answers: token ids and log-probabilities are compared with the trainer's own.

Writes ``result.json``, ``note.md`` and ``answers.jsonl`` to the output folder, then to MLflow and control.
Exit codes: 0 judged, whatever the verdict, or no vLLM to judge with; 2 configuration, data or an adapter that
vLLM cannot serve; 1 something is away, worth a retry.
"""

import os
import sys
from logging import WARNING, getLogger

from common import errors, logging
from common.job_config import parse
from common.verdict import Verdict
from jobs.evaluate import report, tracking
from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.judge import judge
from jobs.evaluate.reference import dataset, open_control
from jobs.evaluate.version import find_version, open_the_store


def main() -> None:
    """Judge the version that the flags, the environment or the file name, and print the verdict."""
    config = parse(EvaluateConfig, sys.argv[1:], prog="python -m jobs.evaluate")
    logging.configure("evaluate", stream=sys.stderr)
    getLogger("httpx").setLevel(WARNING)  # a line for every row otherwise
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # or the trainer's waiting threads starve vLLM
    verdict = evaluate(config)
    print(f"{config.version}: {verdict.sentence}")


def evaluate(config: EvaluateConfig) -> Verdict:
    """Judge, write the files, record in MLflow, report to control: in this order, each may be repeated."""
    store = open_the_store(config.store_url)
    version = find_version(config, store)
    judgement = judge(config, version, store)
    verdict = report.make_verdict(judgement, version, dataset(config, version))
    report.write(config.output, version, verdict, judgement.answers)
    if config.mlflow_tracking_uri:
        tracking.record(config.mlflow_tracking_uri, version, verdict, judgement.answers)
    report_to_control(config, verdict)
    return verdict


def report_to_control(config: EvaluateConfig, verdict: Verdict) -> None:
    """Hand the verdict to control, where there is one.

    Raises:
        AwayError: it does not answer.
        ControlRefused: it said no.
    """
    client = open_control(config)
    if client is None:
        return
    client.report_verdict(config.name, verdict)


if __name__ == "__main__":
    errors.run(main)
