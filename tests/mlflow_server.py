"""A real MLflow server for tests: SQLite in a throwaway folder, one process.

``mlflow server`` imports MLflow twice (command, then worker); its worker alone starts in under half the time.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests.ports import free_port


@contextlib.contextmanager
def running() -> Iterator[str]:
    """The URL of a server that lives as long as the block."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"http://127.0.0.1:{free_port()}"
        process = start(Path(folder), url)
        try:
            wait(url, process, Path(folder) / "log")
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def start(folder: Path, url: str) -> subprocess.Popen[bytes]:
    database = f"sqlite:///{folder}/mlflow.db"
    environment = os.environ | {
        "_MLFLOW_SERVER_FILE_STORE": database,
        "_MLFLOW_SERVER_REGISTRY_STORE": database,
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": f"{folder}/artifacts",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "_MLFLOW_SGI_NAME": "uvicorn",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "--port",
        url.rpartition(":")[2],
        "mlflow.server.fastapi_app:app",
    ]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)


def wait(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=2):
            return
        time.sleep(0.1)
    raise RuntimeError(f"MLflow did not start:\n{log.read_text()}")
