"""Fixtures that several folders share, all of them real parts; what is slow to make is made once."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common import models
from tests import mlflow_server, postgres
from tests.demo import BASE, ROOT, Demo, run_make
from tests.ports import free_port


@pytest.hookimpl(optionalhook=True)  # without xdist there is nothing to share out
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Share the tests out by group, each on one worker with the servers that it starts."""
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):  # its own loadgroup does not see marks under this pytest
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid)

    return ByGroup(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker makes the demo at once, which takes longest; the others begin with what is fast.

    So a mistake shows early.
    """
    items.sort(
        key=lambda item: ORDER.index(group(item.nodeid)) if group(item.nodeid) in ORDER else len(ORDER)
    )
    for item in items:
        if "demo" in getattr(item, "fixturenames", ()) and group(item.nodeid) != "demo":
            raise pytest.UsageError(
                f"{item.nodeid} uses the demo: name its file in USING_DEMO, or two are made"
            )
        if item.get_closest_marker("soak") and not os.environ.get("ONGGI_SOAK"):
            item.add_marker(pytest.mark.skip(reason="large count: make soak"))


# Groups that come first; the rest follow by path.
ORDER = ["demo", "common", "services/database", "services/gateway", "services/vllm", "jobs/finetune"]
USING_DEMO = {
    "jobs/evaluate/test_evaluate.py",
    "services/gateway/test_with_vllm.py",
    "services/local/test_demo.py",
    "services/ui/test_page.py",
}


def group(nodeid: str) -> str:
    """The folder of a test, or ``demo``."""
    path = Path(nodeid.partition("::")[0].removeprefix("tests/"))
    return "demo" if str(path) in USING_DEMO else str(path.parent)


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


@pytest.fixture(scope="session")
def mlflow_url() -> Iterator[str]:
    """An MLflow server of this session's own."""
    with mlflow_server.running() as url:
        yield url


@pytest.fixture(scope="session")
def demo(base_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The demo itself, by the command that a newcomer types, on ports and in a folder of its own."""
    state = tmp_path_factory.mktemp("demo")
    ports = {name: str(free_port()) for name in ("MLFLOW_PORT", "VLLM_PORT", "FASTAPI_PORT", "UI_PORT")}
    environ = {**os.environ, **ports, "ONGGI_STATE": str(state), "COLUMNS": "120"}
    try:
        ran = run_make("demo", environ, timeout=900)
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
