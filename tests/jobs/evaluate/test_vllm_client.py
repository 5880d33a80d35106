"""What vLLM says while it comes and goes, as an edge that cannot be had on demand from a real one."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from jobs.evaluate import vllm_client
from jobs.evaluate.vllm_client import Away, Vllm

WHOLE = {"choices": [{"finish_reason": "length", "prompt_logprobs": [None, {"5": {"logprob": -0.5}}]}]}
# What vLLM 0.32 gives a request that comes while it drains.
ABORTED = {"choices": [{"finish_reason": "abort", "prompt_logprobs": [None]}]}


@contextmanager
def pretended_vllm(answers: list[dict[str, Any]]) -> Iterator[str]:
    """A server that gives ``answers`` in turn, the last one for ever; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            data = json.dumps(answers.pop(0) if len(answers) > 1 else answers[0]).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_client, "PAUSES", (0, 0))


def test_an_answer_that_a_draining_vllm_broke_off_is_asked_for_again() -> None:
    with pretended_vllm([ABORTED, WHOLE]) as url, Vllm(url, None, 1) as vllm:
        assert vllm.logprobs("base", [3, 5]).tolist() == [0.0, -0.5]


def test_a_vllm_that_goes_on_breaking_off_is_away() -> None:
    said = pytest.raises(Away, match="does not serve base now: it is shutting down")
    with pretended_vllm([ABORTED]) as url, Vllm(url, None, 1) as vllm, said:
        vllm.logprobs("base", [3, 5])
