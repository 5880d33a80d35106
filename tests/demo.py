"""The demo as tests see it: what ``make demo`` left running, and how to run a make target like a person."""

import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
BASE = "SmolLM2-135M-Instruct"


@dataclass(frozen=True)
class Demo:
    """The running demo: what ``make demo`` printed, and where its parts are."""

    state: Path
    output: str
    environ: dict[str, str]
    gateway_url: str
    vllm_url: str
    mlflow_url: str
    ui_url: str
    owner_key: str
    model_path: Path
    base_name: str = BASE
    bot: str = "juniper"

    @property
    def store_url(self) -> str:
        """The folder that holds files and adapters."""
        return str(self.state / "store")

    @property
    def figures(self) -> dict[str, Any]:
        """What the demo measured."""
        return dict(json.loads((self.state / "demo.json").read_text()))

    @property
    def secrets(self) -> dict[str, str]:
        """The installation's generated secrets."""
        return dict(json.loads((self.state / "secrets.json").read_text()))

    @property
    def database_url(self) -> str:
        """The demo's SQLite database."""
        return f"sqlite+aiosqlite:///{self.state}/onggi.db"


def run_make(target: str, environ: dict[str, str], timeout: float) -> subprocess.CompletedProcess[str]:
    """Run a make target as a person would, with its output captured; ended whole when it takes too long."""
    command = ["make", "--no-print-directory", target, "DEMO_ENVIRONMENT=test"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            pytest.fail(f"make {target} took more than {timeout} s:\n{output}")
    return subprocess.CompletedProcess(command, process.returncode, output, "")
