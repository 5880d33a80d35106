"""An OpenAI-compatible endpoint that falls silent inside an answer, which vLLM cannot be asked to do.

Runs as ``python pausing_upstream.py SECONDS`` in a pod of the gateway's image, on port 8000.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

MODEL = "pausing"


async def models(_: Request) -> JSONResponse:
    return JSONResponse(
        {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "tests"}]}
    )


def event(delta: dict[str, str], finish_reason: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    chunk = {
        "id": f"chatcmpl-pausing-{time.monotonic_ns()}", "object": "chat.completion.chunk",
        "created": int(time.time()), "model": MODEL, "choices": [choice],
    }  # fmt: skip
    return f"data: {json.dumps(chunk)}\n\n"


async def words(seconds: float) -> AsyncIterator[str]:
    yield event({"role": "assistant", "content": "before"})
    await asyncio.sleep(seconds)
    yield event({"content": " after"})
    yield event({}, "stop")
    yield "data: [DONE]\n\n"


async def chat(_: Request) -> StreamingResponse:
    return StreamingResponse(words(float(sys.argv[1])), media_type="text/event-stream")


if __name__ == "__main__":
    routes = [Route("/v1/models", models), Route("/v1/chat/completions", chat, methods=["POST"])]
    uvicorn.run(Starlette(routes=routes), host="0.0.0.0", port=8000)
