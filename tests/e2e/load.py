"""Constant streamed load on the gateway, and what came of every request."""

import asyncio
import json
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import aiohttp


@dataclass
class Outcome:
    """One streamed completion: ``error`` is None when it was whole."""

    began: float
    seconds: float
    status: int | None
    error: str | None


class Background:
    """Something that goes on in a thread until the block ends; ``_run`` looks at ``_stop`` for that."""

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(130)

    def _run(self) -> None:
        raise NotImplementedError


@dataclass
class Load(Background):
    """``people`` clients that each ask, read the whole stream and ask again, until the block ends."""

    url: str
    key: str
    model: str
    people: int = 4
    max_tokens: int = 24
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def failed(self) -> list[Outcome]:
        """The requests that were refused, and the streams that broke."""
        return [outcome for outcome in self.outcomes if outcome.error]

    def whole_since(self, moment: float) -> int:
        """How many completions that began after ``moment`` (monotonic) were whole."""
        return sum(outcome.began >= moment and not outcome.error for outcome in self.outcomes)

    def _run(self) -> None:
        asyncio.run(self._all())

    async def _all(self) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=120)) as session:
            await asyncio.gather(*(self._person(session, number) for number in range(self.people)))

    async def _person(self, session: aiohttp.ClientSession, number: int) -> None:
        asked = 0
        while not self._stop.is_set():
            asked += 1
            self.outcomes.append(await self._ask(session, f"Tell me story {number}.{asked}."))

    async def _ask(self, session: aiohttp.ClientSession, question: str) -> Outcome:
        began, status, error = time.monotonic(), None, None
        body = {
            "model": self.model, "stream": True, "max_tokens": self.max_tokens,
            "messages": [{"role": "user", "content": question}],
        }  # fmt: skip
        headers = {"Authorization": f"Bearer {self.key}"}
        try:
            address = f"{self.url}/v1/chat/completions"
            async with session.post(address, json=body, headers=headers) as answer:
                status = answer.status
                text = (await answer.read()).decode()
                error = _trouble(status, text)
        except (aiohttp.ClientError, TimeoutError) as broken:
            error = f"{type(broken).__name__}: {broken}"
        return Outcome(began, time.monotonic() - began, status, error)


def _trouble(status: int, text: str) -> str | None:
    """Why a stream is not whole; None when it is: content, a reason to finish, and the end."""
    if status != 200:
        return f"{status}: {text[:300]}"
    events: list[Any] = [
        line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")
    ]
    if not events or events[-1] != "[DONE]":
        return f"the stream broke off: {text[-300:]}"
    chunks = [json.loads(event) for event in events[:-1]]
    reasons = [choice.get("finish_reason") for chunk in chunks for choice in chunk.get("choices", [])]
    if not {"stop", "length"} & set(reasons):
        return f"the stream did not finish: {reasons[-3:]}"
    return None
