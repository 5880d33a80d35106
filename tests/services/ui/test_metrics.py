"""Behind an Ingress every path of the page's port is open, so the metrics have a port of their own."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[3]


def test_with_a_port_of_their_own_the_metrics_are_only_there() -> None:
    page, metrics = free_port(), free_port()
    environ = os.environ | {"UI_PORT": str(page), "METRICS_PORT": str(metrics)}
    process = subprocess.Popen([sys.executable, "-m", "services.ui"], cwd=ROOT, env=environ)
    try:
        wait(f"http://127.0.0.1:{page}/health")
        assert status(f"http://127.0.0.1:{page}/metrics") == 404
        assert "onggi_http_requests_in_flight" in read(f"http://127.0.0.1:{metrics}/metrics")
    finally:
        process.terminate()
        process.wait(30)


def wait(url: str) -> None:
    """Until it answers."""
    until = time.monotonic() + 120
    while True:
        try:
            read(url)
            return
        except urllib.error.URLError:
            assert time.monotonic() < until, url
            time.sleep(0.2)


def read(url: str) -> str:
    """What is there."""
    with urllib.request.urlopen(url, timeout=30) as response:
        return str(response.read().decode())


def status(url: str) -> int:
    """How it answers."""
    try:
        read(url)
    except urllib.error.HTTPError as error:
        return error.code
    return 200
