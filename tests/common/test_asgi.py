"""The middleware that every HTTP component shares."""

import io
import json
import re
from collections.abc import Iterator
from logging import getLogger

import pytest
from fastapi import FastAPI
from starlette.responses import StreamingResponse
from starlette.testclient import TestClient

from common import logging, metrics
from common.asgi import Observed
from common.openai_errors import install_handlers


@pytest.fixture
def output() -> Iterator[io.StringIO]:
    root = getLogger()
    handlers, level = root.handlers, root.level
    yield io.StringIO()
    root.handlers, root.level = handlers, level


@pytest.fixture
def client(output: io.StringIO) -> TestClient:
    logging.configure("asgi-test", stream=output)
    app = FastAPI()
    install_handlers(app)

    @app.get("/things/{name}")
    async def thing(name: str) -> str:
        return name

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("secret detail")

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(iter([b"a", b"b"]))

    @app.get("/health")
    async def health() -> str:
        return "ok"

    app.add_middleware(Observed, component="asgi-test")
    return TestClient(app, raise_server_exceptions=False)


def lines(output: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in output.getvalue().splitlines()]


def test_every_answer_carries_a_request_id_and_keeps_a_harmless_one(client: TestClient) -> None:
    assert re.fullmatch(r"req_[0-9a-f]{32}", client.get("/things/a").headers["x-request-id"])
    assert client.get("/things/a", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
    assert client.get("/things/a", headers={"x-request-id": "a b"}).headers["x-request-id"] != "a b"
    assert client.get("/nowhere").headers["x-request-id"].startswith("req_")


def test_one_api_line_for_each_request_and_none_for_health_checks(
    client: TestClient, output: io.StringIO
) -> None:
    client.get("/health")
    client.get("/things/a", headers={"x-request-id": "mine-2"})
    [line] = [line for line in lines(output) if line["stream"] == "api"]
    assert (line["http_method"], line["path"], line["status_code"]) == ("GET", "/things/a", 200)
    assert line["request_id"] == "mine-2"
    assert isinstance(line["response_time"], float)


def test_the_route_label_is_the_template_so_that_ids_make_one_series(client: TestClient) -> None:
    for name in ("x", "y", "z"):
        client.get(f"/things/{name}")
    client.get("/nowhere/1")
    page = metrics.exposition()[0].decode()
    labels = 'component="asgi-test",method="GET",route="/things/{name}",status="200"'
    assert re.search(rf"onggi_http_requests_total\{{{re.escape(labels)}\}} [3-9]", page)
    assert "/things/x" not in page
    assert 'component="asgi-test",method="GET",route="unmatched",status="404"' in page
    assert 'onggi_http_requests_in_flight{component="asgi-test"} 0.0' in page


def test_an_unforeseen_error_is_logged_and_tells_the_caller_nothing(
    client: TestClient, output: io.StringIO
) -> None:
    answer = client.get("/broken")
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "server_error"
    assert "secret" not in answer.text
    assert answer.headers["x-request-id"]
    logged = lines(output)
    assert any("secret detail" in str(line.get("exception")) for line in logged)
    assert any(line.get("status_code") == 500 for line in logged)


def test_a_stream_passes_through(client: TestClient) -> None:
    assert client.get("/stream").content == b"ab"
