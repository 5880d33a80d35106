import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import BaseModel

from common import control_client
from common.control_client import ControlClient, ControlRefused, ControlUnavailable
from common.names import VersionName

NAME = VersionName("support-bot", 7)


class FakeControl(ThreadingHTTPServer):
    """Control's edge: answers with the given statuses in turn and keeps what was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.statuses: list[int] = []
        self.answer: dict[str, object] = {"error": {"message": "the token is not known"}}
        self.asked: list[tuple[str, str | None, object]] = []


class Handler(BaseHTTPRequestHandler):
    server: FakeControl

    def do_POST(self) -> None:
        self.answer(json.loads(self.rfile.read(int(self.headers["content-length"]))))

    def do_GET(self) -> None:
        self.answer(None)

    def answer(self, body: object) -> None:
        self.server.asked.append((self.path, self.headers["authorization"], body))
        self.send_response(self.server.statuses.pop(0))
        self.end_headers()
        self.wfile.write(json.dumps(self.server.answer).encode())

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def control(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeControl]:
    monkeypatch.setattr(control_client, "PAUSES", (0.01, 0.01, 0.01))
    with FakeControl() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield server
        server.shutdown()


@pytest.fixture
def client(control: FakeControl) -> ControlClient:
    return ControlClient(f"http://127.0.0.1:{control.server_port}/", "secret")


def test_a_version_is_reported_with_the_jobs_token(control: FakeControl, client: ControlClient) -> None:
    control.statuses = [200]
    client.report_version(NAME)
    assert control.asked == [("/onggi/v1/versions/support-bot@7/report", "Bearer secret", {})]


def test_a_verdict_is_sent_whole(control: FakeControl, client: ControlClient) -> None:
    class Verdict(BaseModel):
        state: str
        figures: dict[str, float]

    control.statuses = [200]
    client.report_verdict(NAME, Verdict(state="passed", figures={"fixed": 14}))
    body = {"state": "passed", "figures": {"fixed": 14.0}}
    assert control.asked == [("/onggi/v1/versions/support-bot@7/verdict", "Bearer secret", body)]


def test_what_is_asked_is_asked_with_the_jobs_token(control: FakeControl, client: ControlClient) -> None:
    control.statuses, control.answer = [503, 200], {"champion": 7}
    assert client.get("/onggi/v1/bots/support-bot") == {"champion": 7}
    assert control.asked == [("/onggi/v1/bots/support-bot", "Bearer secret", None)] * 2


def test_a_control_that_is_starting_is_asked_again(control: FakeControl, client: ControlClient) -> None:
    control.statuses = [503, 429, 500, 200]
    client.report_version(NAME)
    assert len(control.asked) == 4


def test_a_refusal_is_not_repeated_and_says_why(control: FakeControl, client: ControlClient) -> None:
    control.statuses = [401]
    with pytest.raises(ControlRefused, match=r"refused /onggi/v1/.*: the token is not known") as caught:
        client.report_version(NAME)
    assert caught.value.status == 401
    assert len(control.asked) == 1


def test_control_away_is_a_sentence_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 2 < sum(control_client.PAUSES) < 5
    monkeypatch.setattr(control_client, "PAUSES", (0.01, 0.01))
    with pytest.raises(ControlUnavailable, match=r"does not answer at http://127\.0\.0\.1:9 "):
        ControlClient("http://127.0.0.1:9", "secret").report_version(NAME)
