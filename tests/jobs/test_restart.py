import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.demo import ROOT

SET_CHILD_SUBREAPER = 36  # linux/prctl.h: what a container's first process is by itself


def _start(tries: int, script: str, *words: str, reaper: bool = False) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "jobs.restart", "--tries", str(tries), "--pause", "0.01", "--"]
    command += [sys.executable, "-c", script, *words]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=(lambda: ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1)) if reaper else None,
    )  # fmt: skip


def _run(tries: int, script: str, *words: str) -> tuple[int, list[dict[str, object]]]:
    process = _start(tries, script, *words)
    out, _ = process.communicate(timeout=30)
    return process.returncode, [json.loads(line) for line in out.splitlines() if line.startswith("{")]


# Appends a line to the file, then ends as the line's number says.
COUNTING = """
import os, sys
path, *codes = sys.argv[1:]
open(path, "a").write("x")
code = int(codes[min(os.path.getsize(path), len(codes)) - 1])
os.kill(os.getpid(), -code) if code < 0 else sys.exit(code)
"""


@pytest.mark.parametrize(
    ("codes", "runs", "ends_with"),
    [
        (["0"], 1, 0),
        (["2"], 1, 2),
        (["3"], 1, 3),
        (["-9", "0"], 2, 0),
        (["-9", "1", "0"], 3, 0),
        (["-9", "2"], 2, 2),
        (["1"], 3, 1),
        (["-9"], 3, 137),
    ],
)
def test_a_command_is_run_again_unless_it_is_done_or_another_try_cannot_help(
    tmp_path: Path, codes: list[str], runs: int, ends_with: int
) -> None:
    counter = tmp_path / "runs"
    code, told = _run(3, COUNTING, str(counter), *codes)
    assert (code, len(counter.read_text())) == (ends_with, runs)
    assert [(line["event"], line["attempt"]) for line in told] == [
        ("restarted", attempt) for attempt in range(2, runs + 1)
    ]


def test_sigterm_goes_to_the_command_which_is_not_started_again() -> None:
    process = _start(3, "import time; print('up', flush=True); time.sleep(60)")
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=10)
    assert (process.returncode, out) == (128 + signal.SIGTERM, "")


def test_a_command_that_ends_well_on_sigterm_ends_well() -> None:
    script = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(0)); print('up', flush=True); "
    process = _start(3, script + "time.sleep(60)")
    assert process.stdout
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 0


def test_orphans_of_the_command_are_taken_in_and_do_not_end_it(tmp_path: Path) -> None:
    orphan = tmp_path / "orphan"
    # A process whose parent ends at once, and which ends itself while the command goes on.
    script = """
import os, sys, time
if os.fork() == 0:
    if os.fork():
        os._exit(0)
    time.sleep(0.2)
    open(sys.argv[1], "w").write(str(os.getppid()))
    os._exit(7)
os.wait()
time.sleep(0.6)
"""
    process = _start(1, script, str(orphan), reaper=True)
    assert (process.wait(timeout=20), int(orphan.read_text())) == (0, process.pid)


def test_without_a_command_it_says_how_to_write_one() -> None:
    process = subprocess.run(
        [sys.executable, "-m", "jobs.restart", "python"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 2
    assert process.stderr.startswith("error: no command: write it behind --")


def test_a_command_that_cannot_be_run_is_a_mistake(tmp_path: Path) -> None:
    started = time.monotonic()
    process = subprocess.run(
        [sys.executable, "-m", "jobs.restart", "--", str(tmp_path / "none")],
        cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "RESTART_PAUSE": "30"},
    )  # fmt: skip
    assert (process.returncode, time.monotonic() - started < 20) == (2, True)
    assert "cannot be run" in process.stderr
