"""Run a job's command and start it again, in this very container, when it is killed or ends badly.

    python -m jobs.restart [--tries 3] -- python -m jobs.finetune --config job.yaml

A pod whose container ends is replaced after the Job's back-off, and serving may take its GPU meanwhile; a
trainer that comes back as a child of this process keeps the GPU and goes on from its last checkpoint. Exit
codes 0, 2 (configuration or data) and 3 (needs a bigger GPU) are handed on at once, any other when the tries
are used up: podFailurePolicy sees what it would have seen. SIGTERM goes to the child, which is not started
again then. This process is the container's first, so it takes in orphans too.
"""

import os
import signal
import subprocess
import sys
import time
from types import FrameType

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from common import errors, logging
from common.errors import NOT_RETRIED, UserError
from common.job_config import JobConfig, parse

FINAL = NOT_RETRIED | {0}
"""Exit codes after which another try would end the same way."""


class RestartConfig(JobConfig):
    """Run the command behind --, and start it again when it is killed or ends badly."""

    model_config = SettingsConfigDict(env_prefix="RESTART_")

    tries: int = Field(3, ge=1, description="how often the command is run at most")
    pause: float = Field(2.0, ge=0, description="seconds before the second try; each later one doubles them")


class Supervisor:
    """Runs one command until it is done, its tries are used up, or this process is told to stop."""

    def __init__(self, command: list[str], config: RestartConfig) -> None:
        self._command = command
        self._config = config
        self._child: subprocess.Popen[bytes] | None = None
        self._stopped: int | None = None

    def run(self) -> int:
        """The exit code of the last try; 128 + the signal's number where one ended it."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        code = 0
        for attempt in range(1, self._config.tries + 1):
            code = self._run_once()
            if code in FINAL or self._stopped or attempt == self._config.tries:
                break
            self._tell(code, attempt)
            if not self._pause(self._config.pause * 2 ** (attempt - 1)):
                break
        return 128 + self._stopped if self._stopped and code not in FINAL else code

    def _run_once(self) -> int:
        try:
            self._child = subprocess.Popen(self._command)
        except OSError as error:
            raise UserError(
                f"{self._command[0]} cannot be run ({error.strerror}): check the command"
            ) from None
        if self._stopped:  # it came while the child was being made
            _signal(self._child.pid, self._stopped)
        return _wait_for(self._child.pid)

    def _pause(self, seconds: float) -> bool:
        """Wait; False as soon as this process is told to stop, which does not cut one long sleep short."""
        end = time.monotonic() + seconds
        while not self._stopped and time.monotonic() < end:
            time.sleep(min(0.1, seconds))
        return not self._stopped

    def _stop(self, number: int, _: FrameType | None) -> None:
        self._stopped = number
        if self._child:
            # Not Popen's own: it would look for an exit status that _wait_for has taken.
            _signal(self._child.pid, number)

    def _tell(self, code: int, attempt: int) -> None:
        logging.get("training").warning(
            "restarted", exit_code=code, attempt=attempt + 1, tries=self._config.tries
        )


def main() -> None:
    """Split the command line at ``--`` and run what is behind it."""
    words = sys.argv[1:]
    if "--" not in words or not words[words.index("--") + 1 :]:
        raise UserError(
            "no command: write it behind --, as in python -m jobs.restart -- python -m jobs.finetune"
        )
    split = words.index("--")
    config = parse(RestartConfig, words[:split], prog="python -m jobs.restart")
    logging.configure("restart")
    sys.exit(Supervisor(words[split + 1 :], config).run())


def _wait_for(pid: int) -> int:
    """Take in whichever child ends until it is ``pid``; its exit code as a shell would say it."""
    while True:
        ended, status = os.wait()
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            return 128 - code if code < 0 else code


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


if __name__ == "__main__":
    errors.run(main)
