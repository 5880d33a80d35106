"""services.local.processes against real processes."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.errors import UserError
from services.local.processes import Processes, Service
from tests.ports import free_port

DETACHING = """
import http.server, subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
http.server.test(http.server.SimpleHTTPRequestHandler, port=int(sys.argv[1]), bind="127.0.0.1")
"""


def web(name: str = "web") -> Service:
    port = free_port()
    return Service(
        name=name,
        command=[sys.executable, "-c", DETACHING, str(port)],
        port=port,
        health=f"http://127.0.0.1:{port}/",
        port_variable="WEB_PORT",
        patience=20,
    )


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    made = Processes(tmp_path)
    yield made
    made.stop()


def marked(state: Path) -> list[int]:
    wanted = f"ONGGI_STATE_FOLDER={state.resolve()}".encode()
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if wanted in environ.read_bytes().split(b"\0"):
                found.append(int(environ.parent.name))
        except OSError:
            continue
    return found


def test_a_service_started_once_is_found_again_and_not_started_twice(
    processes: Processes, tmp_path: Path
) -> None:
    service = web()
    assert processes.start(service)
    processes.wait(service)
    assert not Processes(tmp_path).start(service)


def test_stop_ends_what_a_service_detached_from_itself(processes: Processes, tmp_path: Path) -> None:
    service = web()
    processes.start(service)
    processes.wait(service)
    assert len(marked(tmp_path)) == 2
    assert processes.stop() == ["web"]
    assert marked(tmp_path) == []
    assert processes.stop() == []


def test_a_taken_port_is_named_with_its_variable(processes: Processes, tmp_path: Path) -> None:
    service = web()
    processes.start(service)
    processes.wait(service)
    other = Processes(tmp_path / "other")
    with pytest.raises(UserError, match=rf"port {service.port} .* taken by another program.*WEB_PORT="):
        other.start(service)


def test_a_service_that_ends_while_starting_shows_the_end_of_its_log(processes: Processes) -> None:
    port = free_port()
    command = [sys.executable, "-c", "raise SystemExit('no such model')"]
    service = Service("broken", command, port, f"http://127.0.0.1:{port}/", "WEB_PORT", patience=20)
    processes.start(service)
    with pytest.raises(UserError, match=r"broken ended while starting(.|\n)*no such model"):
        processes.wait(service)


def test_a_record_of_a_process_that_ended_does_not_stand_for_another_with_its_id(
    processes: Processes, tmp_path: Path
) -> None:
    (tmp_path / "processes").mkdir()
    (tmp_path / "processes" / "web.json").write_text(f'{{"pid": {os.getpid()}, "started": "1"}}')
    assert processes.stop() == []
    time.sleep(0.05)  # a signal to ourselves would have arrived
    assert not (tmp_path / "processes" / "web.json").exists()
