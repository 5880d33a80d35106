"""Stand-in for ``python -m jobs.evaluate``: takes its flags and reports that everything was fixed."""

import argparse
import os
from pathlib import Path

from common.control_client import ControlClient
from common.errors import run
from common.names import VersionName
from common.rows import read_rows
from common.verdict import Verdict


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("version", "data", "regression", "vllm-url", "output"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--max-length", type=int, default=1024)
    parser.add_argument("--leave-out", action="store_true")
    given = parser.parse_args()
    rows = len(read_rows(Path(given.data)).rows)
    version = VersionName.parse(given.version)
    assert version is not None
    verdict = Verdict(
        state="passed",
        sentence=f"fixed {rows} of {rows} known mistakes",
        figures={"fixed": rows},
        note="# Note",
    )
    if os.environ["MLFLOW_TRACKING_URI"] != "http://127.0.0.1:9":
        client = ControlClient(os.environ["CONTROL_URL"], os.environ["CONTROL_TOKEN"])
        client.report_verdict(version, verdict)


if __name__ == "__main__":
    run(main)
