"""Fixtures that several folders share, all of them real parts; what is slow to make is made once."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from common import models
from tests import postgres
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[1]
BASE = "SmolLM2-135M-Instruct"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Fast tests first, so that a mistake shows early; the large counts only by hand."""
    items.sort(key=lambda item: "demo" in getattr(item, "fixturenames", ()))
    if os.environ.get("ONGGI_SOAK"):
        return
    skip = pytest.mark.skip(reason="large count: make soak")
    for item in items:
        if item.get_closest_marker("soak"):
            item.add_marker(skip)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip("needs root: it makes network namespaces")


@pytest.fixture(scope="session")
def base_model() -> Path:
    """The folder of SmolLM2-135M-Instruct as a plain checkpoint."""
    subprocess.run([sys.executable, "-m", "jobs.download", BASE], check=True, cwd=ROOT)
    return models.resolve(BASE, models.default_cache_dir()).path


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server of this session's own."""
    with postgres.running() as url:
        yield url


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


@pytest.fixture(scope="session")
def demo(base_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The demo itself, by the command that a newcomer types, on ports and in a folder of its own."""
    state = tmp_path_factory.mktemp("demo")
    ports = {name: str(free_port()) for name in ("MLFLOW_PORT", "VLLM_PORT", "FASTAPI_PORT", "UI_PORT")}
    environ = {**os.environ, **ports, "ONGGI_STATE": str(state), "COLUMNS": "120"}
    ran = run_make("demo", environ, timeout=900)
    try:
        if ran.returncode:
            pytest.fail(f"make demo ended with {ran.returncode}:\n{ran.stdout}\n{_log_ends(state / 'demo')}")
        yield Demo(
            state=state / "demo",
            output=ran.stdout,
            environ=environ,
            gateway_url=f"http://127.0.0.1:{ports['FASTAPI_PORT']}",
            vllm_url=f"http://127.0.0.1:{ports['VLLM_PORT']}/v1",
            mlflow_url=f"http://127.0.0.1:{ports['MLFLOW_PORT']}",
            ui_url=f"http://127.0.0.1:{ports['UI_PORT']}",
            owner_key=json.loads((state / "demo" / "secrets.json").read_text())["api_key"],
            model_path=base_model,
        )
    finally:
        run_make("demo-stop", environ, timeout=60)


def _log_ends(state: Path, lines: int = 40) -> str:
    logs = sorted(state.glob("logs/*.log")) + sorted(state.glob("jobs/*/*.log"))
    return "\n".join(
        f"--- {log}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) for log in logs
    )
