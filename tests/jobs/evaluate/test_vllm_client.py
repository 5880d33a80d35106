"""What vLLM says while it comes and goes, as an edge that cannot be had on demand from a real one."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from common.errors import AwayError
from jobs.evaluate import vllm_client
from jobs.evaluate.vllm_client import Vllm
from tests.ports import free_port

WHOLE = {"choices": [{"finish_reason": "length", "prompt_logprobs": [None, {"5": {"logprob": -0.5}}]}]}
# What vLLM 0.32 gives a request that comes while it drains.
ABORTED = {"choices": [{"finish_reason": "abort", "prompt_logprobs": [None]}]}


@contextmanager
def pretended_vllm(
    answers: list[dict[str, Any]], *, models: tuple[str, ...] = (), at: tuple[str, int] = ("127.0.0.1", 0)
) -> Iterator[str]:
    """A server that gives ``answers`` in turn, the last one for ever, and serves ``models``; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._say({"data": [{"id": name} for name in models]})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self._say(answers.pop(0) if len(answers) > 1 else answers[0])

        def _say(self, answer: dict[str, Any]) -> None:
            data = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(at, Handler)
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
    said = pytest.raises(AwayError, match="does not serve base now: it is shutting down")
    with pretended_vllm([ABORTED]) as url, Vllm(url, None, 1) as vllm, said:
        vllm.logprobs("base", [3, 5])


@pytest.fixture
def two_servers(monkeypatch: pytest.MonkeyPatch) -> tuple[str, int]:
    """The name of a headless Service with two pods, and the port of both."""
    resolve = socket.getaddrinfo

    def resolved(host: str, port: int, *rest: Any, **more: Any) -> list[Any]:
        if host != "vllm.test":
            return resolve(host, port, *rest, **more)
        return [answer for at in ("127.0.0.1", "127.0.0.2") for answer in resolve(at, port, *rest, **more)]

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    return "vllm.test", free_port()


def test_of_several_servers_behind_a_name_the_one_with_the_base_is_asked(
    two_servers: tuple[str, int],
) -> None:
    name, port = two_servers
    with (
        pretended_vllm([ABORTED], models=("small",), at=("127.0.0.1", port)),
        pretended_vllm([WHOLE], models=("large", "large-bot"), at=("127.0.0.2", port)),
        Vllm(f"http://{name}:{port}/v1", None, 1) as vllm,
    ):
        assert vllm.find("large", 5) == ["large", "large-bot"]
        assert vllm.logprobs("large-bot", [3, 5]).tolist() == [0.0, -0.5]


def test_a_server_that_comes_back_elsewhere_is_found_again(two_servers: tuple[str, int]) -> None:
    name, port = two_servers
    with Vllm(f"http://{name}:{port}", None, 1) as vllm:
        with pretended_vllm([WHOLE], models=("base",), at=("127.0.0.1", port)):
            vllm.find("base", 5)
        with pretended_vllm([WHOLE], models=("base",), at=("127.0.0.2", port)):
            assert vllm.logprobs("base", [3, 5]).tolist() == [0.0, -0.5]


def test_while_only_other_bases_are_served_it_waits_and_then_says_which(two_servers: tuple[str, int]) -> None:
    name, port = two_servers
    with (
        pretended_vllm([WHOLE], models=("small",), at=("127.0.0.2", port)),
        Vllm(f"http://{name}:{port}", None, 1) as vllm,
    ):
        assert vllm.find("large", 0) == ["small"]
