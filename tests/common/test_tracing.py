"""Traces reach a collector over OTLP when an endpoint is set, and cost nothing when none is."""

import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from common import tracing

# The tracer provider is one per process and cannot be taken back, so this runs in a process of its own.
PROGRAM = """
import sys
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from common import tracing
from common.asgi import Observed

async def app(scope, receive, send):
    text = f"{tracing.current_trace_id()} {tracing.outgoing_headers()['traceparent']}"
    await PlainTextResponse(text)(scope, receive, send)

provider = tracing.configure("gateway", sys.argv[1])
client = TestClient(Observed(app, "gateway", traced=True))
parent = {"traceparent": "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"}
print(client.post("/v1/chat/completions", headers=parent).text, file=sys.stderr)
provider.shutdown()
"""


class Collector(BaseHTTPRequestHandler):
    received: list[tuple[str, bytes]] = []  # noqa: RUF012

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.received.append((self.path, body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_without_an_endpoint_nothing_is_traced() -> None:
    assert tracing.configure("gateway", "") is None
    assert tracing.current_trace_id() is None
    assert tracing.outgoing_headers() == {}


def test_a_request_continues_its_callers_trace_and_its_span_reaches_the_collector() -> None:
    server = HTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        endpoint = f"http://127.0.0.1:{server.server_port}"
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, endpoint], capture_output=True, text=True, check=True, timeout=60
        )
    finally:
        server.shutdown()
    trace_id, traceparent = done.stderr.splitlines()[-1].split()
    assert trace_id == "0123456789abcdef0123456789abcdef"
    assert traceparent.split("-")[1] == trace_id
    [(path, body)] = Collector.received
    assert path == "/v1/traces"
    assert b"POST /v1/chat/completions" in body
    assert b"onggi-gateway" in body
