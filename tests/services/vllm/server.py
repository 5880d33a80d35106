"""A vLLM process of the tests', asked over HTTP."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
BASE = "SmolLM2-135M-Instruct"
START_SECONDS = 300


@dataclass
class Answer:
    """Status and JSON body of an HTTP answer."""

    status: int
    body: dict[str, Any]

    @property
    def text(self) -> str:
        """What the model said."""
        assert self.status == 200, self
        return str(self.body["choices"][0]["message"]["content"])

    @property
    def message(self) -> str:
        """The sentence of an error."""
        return str(self.body["error"]["message"])


@dataclass
class Server:
    """``python -m services.vllm`` with its log in ``folder``."""

    python: str
    host: str
    port: int
    environ: dict[str, str]
    folder: Path
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def log(self) -> str:
        """Everything that the processes of this server have printed."""
        return (self.folder / "vllm.log").read_text(errors="replace")

    def start(self) -> None:
        """Start it and wait until it answers."""
        cache = {"ADAPTER_CACHE_DIR": str(self.folder / "adapters")}
        address = {"VLLM_HOST": self.host, "VLLM_PORT": str(self.port)}
        with (self.folder / "vllm.log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.python, "-m", "services.vllm", "--max-model-len", "1024"],
                cwd=ROOT, env={**os.environ, **self.environ, **cache, **address},
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while not self.healthy():
            assert self.process.poll() is None, f"vLLM has ended:\n{self.log[-4000:]}"
            assert time.monotonic() < deadline, f"vLLM does not answer:\n{self.log[-4000:]}"
            time.sleep(0.2)

    def stop(self) -> None:
        """End it as Kubernetes does."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process = None

    def kill(self) -> None:
        """End it and its processes at once."""
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def healthy(self) -> bool:
        """Whether it answers."""
        try:
            return self.get("/health").status == 200
        except OSError:
            return False

    def chat(self, model: str, question: str = "What is your name?", timeout: float = 120) -> Answer:
        """A greedy answer by ``model``."""
        messages = [{"role": "user", "content": question}]
        body = {"model": model, "messages": messages, "max_tokens": 24, "temperature": 0}
        return self.post("/v1/chat/completions", body, timeout)

    def post(self, path: str, body: dict[str, Any], timeout: float = 120) -> Answer:
        """POST JSON."""
        headers = {"Content-Type": "application/json"}
        return self._send(urllib.request.Request(self.url(path), json.dumps(body).encode(), headers), timeout)

    def get(self, path: str, timeout: float = 10) -> Answer:
        """GET; a body that is not JSON is left out."""
        return self._send(urllib.request.Request(self.url(path)), timeout)

    def url(self, path: str) -> str:
        """The address of ``path``."""
        return f"http://{self.host}:{self.port}{path}"

    def _send(self, request: urllib.request.Request, timeout: float) -> Answer:
        try:
            with urllib.request.urlopen(request, timeout=timeout) as response:
                return Answer(response.status, _json(response.read()))
        except urllib.error.HTTPError as error:
            return Answer(error.code, _json(error.read()))


def run_in(namespace: str, script: Path, *arguments: str) -> Any:
    """What the Python ``script`` prints as JSON when it runs inside a network namespace."""
    command = ["ip", "netns", "exec", namespace, sys.executable, str(script), *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _json(content: bytes) -> dict[str, Any]:
    try:
        return dict(json.loads(content))
    except ValueError:
        return {}
