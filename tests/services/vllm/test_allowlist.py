"""Of vLLM's routes, only those on the list answer: the code alone, and the running server from outside."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from common.asgi import Message, Scope
from services.vllm.allowlist import ALLOWED, RouteAllowList
from tests.services.vllm.server import BASE, Server, run_in

ASK = Path(__file__).with_name("ask.py")


class App:
    """Stands for vLLM's app: remembers what came through."""

    def __init__(self) -> None:
        self.came: list[Scope] = []

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        self.came.append(scope)


async def ask(scope: Scope) -> tuple[App, list[Message]]:
    app, sent = App(), []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await RouteAllowList(app)(scope, receive, send)
    return app, sent


@pytest.mark.parametrize(("method", "path"), sorted(ALLOWED))
async def test_an_allowed_route_comes_through(method: str, path: str) -> None:
    app, sent = await ask({"type": "http", "method": method, "path": path})
    assert len(app.came) == 1
    assert not sent


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/load_lora_adapter"),
        ("POST", "/tokenize"),
        ("GET", "/v1/chat/completions"),
        ("DELETE", "/v1/models"),
        ("HEAD", "/health"),
        ("POST", "/v1/chat/completions/"),
        ("POST", "//v1/chat/completions"),
        ("POST", "/v1//chat/completions"),
        ("POST", "/v1/chat/completions/render"),
        ("POST", "/v1/chat/../load_lora_adapter"),
        ("GET", "/metrics/x"),
        ("GET", "/metricsx"),
        ("GET", "/Health"),
        ("GET", "/health\n"),
        ("GET", "/"),
        ("GET", ""),
    ],
)
async def test_any_other_is_a_404_in_openais_shape(method: str, path: str) -> None:
    app, (start, body) = await ask({"type": "http", "method": method, "path": path})
    assert not app.came
    assert start["status"] == 404
    error = json.loads(body["body"])["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "unknown_url")


async def test_the_path_counts_and_not_what_the_host_header_makes_of_it() -> None:
    headers = [(b"host", b"x/v1/models?")]
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/version",
        "raw_path": b"/v1/models",
        "headers": headers,
    }
    app, (start, _) = await ask(scope)
    assert not app.came
    assert start["status"] == 404


async def test_a_websocket_never_comes_through() -> None:
    with_response = {"websocket.http.response": {}}
    app, sent = await ask({"type": "websocket", "path": "/v1/chat/completions", "extensions": with_response})
    assert not app.came
    assert sent[0] == {**sent[0], "type": "websocket.http.response.start", "status": 404}
    app, sent = await ask({"type": "websocket", "path": "/health", "extensions": None})
    assert not app.came
    assert sent == [{"type": "websocket.close"}]


async def test_start_and_end_of_the_server_come_through() -> None:
    app, sent = await ask({"type": "lifespan"})
    assert len(app.came) == 1
    assert not sent


@pytest.mark.root
def test_every_route_of_the_running_server_answers_only_if_it_is_on_the_list(
    server: Server, namespace: str
) -> None:
    routes = listed_routes(server)
    assert len(routes) > 30, routes
    assert {("POST", "/v1/load_lora_adapter"), ("POST", "/tokenize"), ("POST", "/invocations")} <= routes
    present = ALLOWED & routes
    assert present == ALLOWED - {("POST", "/v1/embeddings")}  # a chat model has none
    answers = ask_from(namespace, server, routes)
    answered = {route for route, status in answers.items() if status != 404}
    assert answered == present
    assert {answers[route] for route in present} == {200}


@pytest.mark.root
def test_no_spelling_of_a_hidden_route_gets_past_the_list(server: Server, namespace: str) -> None:
    paths = [path for _, path in listed_routes(server)]
    spellings = {
        spelling
        for path in paths
        for spelling in (path + "/", "/" + path, path.replace("/", "//"), path + "?x=/v1/models",
                         path.replace("t", "%74"), path.replace("/", "%2f"), path.upper(),
                         f"/v1/models/..{path}", f"/health/%2e%2e{path}", f"http://{server.host}{path}",
                         f"/metrics{path}", path + ";/v1/models", path + "%00", path + "#/health")
    }  # fmt: skip
    asked = {(method, spelling) for spelling in spellings for method in ("GET", "POST", "HEAD", "OPTIONS")}
    through = {route for route, status in ask_from(namespace, server, asked).items() if status < 400}
    allowed = {path for _, path in ALLOWED}
    assert {decoded(path) for _, path in through} <= allowed, through


def listed_routes(server: Server) -> set[tuple[str, str]]:
    """The routes that the running server has, as it said itself when it started."""
    found = re.findall(r"Route: (\S+), Methods: ([A-Z, ]+)", server.log)
    return {(method, path) for path, methods in found for method in methods.strip().split(", ")}


def ask_from(namespace: str, server: Server, routes: set[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """The status of each route when a stranger asks it."""
    body = {"model": BASE, "messages": [{"role": "user", "content": "Hi"}], "prompt": "Hi", "max_tokens": 1}
    lines = [[method, path.replace("{", "").replace("}", "")] for method, path in sorted(routes)]
    asked = json.dumps({"routes": lines, "body": body})
    statuses = run_in(namespace, ASK, server.host, str(server.port), asked)
    return dict(zip(sorted(routes), statuses, strict=True))


def decoded(path: str) -> str:
    """The path that a server routes by."""
    from urllib.parse import unquote, urlsplit

    return unquote(urlsplit(path).path)
