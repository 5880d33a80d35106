"""FakeUpstream: an OpenAI-compatible server that says exactly what a test tells it to, byte for byte.

It stands where a model server would, for what a real one cannot be made to do on demand: break off, stall,
fail, answer in odd pieces. ``test_with_vllm.py`` has the real one.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

DONE = b"data: [DONE]\n\n"
BASE = "base-model"
BROKEN = object()  # in a script: drop the connection here


def chunk(id_: str, text: str | None = None, finish: str | None = None, **more: Any) -> bytes:
    """One event of a chat stream, spaced as vLLM does it."""
    delta = (
        {"role": "assistant", "content": ""} if text is None and finish is None else {"content": text or ""}
    )
    body = {
        "id": id_,
        "object": "chat.completion.chunk",
        "created": 1,
        "model": BASE,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        **more,
    }
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


def usage(id_: str, prompt: int = 7, completion: int = 3) -> bytes:
    """The event that include_usage adds."""
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    body = {
        "id": id_,
        "object": "chat.completion.chunk",
        "created": 1,
        "model": BASE,
        "choices": [],
        "usage": counts,
    }
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


def whole(id_: str, text: str = "Hello.") -> dict[str, Any]:
    """A chat completion in one piece."""
    return {
        "id": id_,
        "object": "chat.completion",
        "created": 1,
        "model": BASE,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }


def listed(name: str) -> dict[str, Any]:
    """A base model in the list of a vLLM."""
    return {"id": name, "object": "model", "created": 5, "owned_by": "vllm"}


@dataclass
class FakeUpstream:
    """``script`` is what a stream sends: bytes as they are, numbers as pauses in seconds, BROKEN.

    Without a script it answers "Hello." in three pieces, with an id made, as vLLM does, from x-request-id.
    ``refusal`` (status, body, headers) is answered instead while it is set, to requests for ``refused_model``
    only where that is set. ``warmed`` are the adapters that
    it was asked to load, ``unloadable`` those that it refuses to. ``health`` is what /health answers.
    ``drops`` counts down requests whose connection is closed unanswered. What comes while ``thawed`` is
    cleared waits for it, and what is to be loaded for ``thaw_warm_ups``. ``open_streams`` are under way.
    """

    host: str = "127.0.0.1"
    port: int = 0
    script: Sequence[Any] | None = None
    reply: Any = None
    refusal: tuple[int, Any, dict[str, str]] | None = None
    refused_model: str | None = None
    models: list[dict[str, Any]] = field(default_factory=lambda: [listed(BASE)])
    health: int = 200
    asked_health: int = 0
    drops: int = 0
    thawed: asyncio.Event = field(default_factory=asyncio.Event)
    thaw_warm_ups: asyncio.Event = field(default_factory=asyncio.Event)
    open_streams: int = 0
    unloadable: set[str] = field(default_factory=set)
    warmed: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    connections: set[Any] = field(default_factory=set)
    sent: bytearray = field(default_factory=bytearray)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    runner: web.AppRunner | None = None

    def __post_init__(self) -> None:
        self.thawed.set()
        self.thaw_warm_ups.set()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}/v1"

    def events(self, id_: str) -> list[Any]:
        """What a stream sends when the test did not say."""
        return [chunk(id_), chunk(id_, "Hel"), chunk(id_, "lo."), chunk(id_, finish="stop"), usage(id_), DONE]

    async def kill(self) -> None:
        """End as a process does that is killed: every connection breaks, and nobody listens any more."""
        assert self.runner
        server = self.runner.server
        for connection in server.connections if server else ():
            if connection.transport:
                connection.transport.abort()
        await self.runner.cleanup()

    @web.middleware
    async def freeze(self, request: web.Request, handler: Any) -> web.StreamResponse:
        await self.thawed.wait()
        answer: web.StreamResponse = await handler(request)
        return answer

    async def list_models(self, _: web.Request) -> web.Response:
        if self.refusal and not self.refused_model:
            return self._refuse()
        return web.json_response({"object": "list", "data": self.models})

    async def complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if request.headers.get("x-request-id", "").startswith("warm-up-"):
            return await self._warm_up(body["model"])
        assert request.transport
        self.connections.add(request.transport.get_extra_info("peername"))
        self.bodies.append(body)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        if self.refusal and self.refused_model in (None, body["model"]):
            return self._refuse()
        if self.drops:
            self.drops -= 1
            request.transport.abort()
            return web.Response()
        id_ = f"chatcmpl-{request.headers['x-request-id']}"
        if not body.get("stream"):
            return await self._whole(id_)
        return await self._stream(request, self.script or self.events(id_))

    async def _warm_up(self, model: str) -> web.Response:
        self.warmed.append(model)
        await self.thaw_warm_ups.wait()
        if model in self.unloadable:
            error = {"message": f"{model} has rank 512", "code": 400}
            return web.json_response({"error": error}, status=400)
        return web.json_response(whole("cmpl-warm"))

    async def check(self, _: web.Request) -> web.Response:
        self.asked_health += 1
        return web.Response(status=self.health)

    async def _whole(self, id_: str) -> web.Response:
        if isinstance(self.reply, float):
            await self._pause(self.reply)
        if isinstance(self.reply, bytes):
            return web.Response(body=self.reply, content_type="application/json")
        return web.json_response(self.reply if isinstance(self.reply, dict) else whole(id_))

    async def _stream(self, request: web.Request, script: Sequence[Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        self.open_streams += 1
        try:
            await self._play(request, response, script)
        finally:
            self.open_streams -= 1
        return response

    async def _play(self, request: web.Request, response: web.StreamResponse, script: Sequence[Any]) -> None:
        for step in script:
            if step is BROKEN:
                assert request.transport
                request.transport.abort()
                break
            if isinstance(step, int | float):
                await self._pause(step)
                continue
            self.sent += step
            await response.write(step)

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.left.set()
            raise

    def _refuse(self) -> web.Response:
        assert self.refusal
        status, body, headers = self.refusal
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(status=status, text=text, headers=headers, content_type="application/json")


@asynccontextmanager
async def serving(fake: FakeUpstream) -> AsyncIterator[FakeUpstream]:
    """Serve ``fake`` on a free loopback port (or its own, after a pause) for as long as the block runs."""
    app = web.Application(middlewares=[fake.freeze])
    app.router.add_get("/health", fake.check)
    app.router.add_get("/v1/models", fake.list_models)
    app.router.add_post("/v1/chat/completions", fake.complete)
    app.router.add_post("/v1/completions", fake.complete)
    # A handler is cancelled when its caller leaves, as vLLM stops generating then.
    fake.runner = runner = web.AppRunner(
        app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None
    )
    await runner.setup()
    site = web.TCPSite(runner, fake.host, fake.port)
    await site.start()
    fake.port = runner.addresses[0][1]
    try:
        yield fake
    finally:
        await runner.cleanup()
