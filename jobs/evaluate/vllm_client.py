"""vLLM as the judge asks it: log-probabilities of given tokens, greedy answers, the ids it makes of a chat.

``prompt_logprobs`` and ``return_token_ids`` are vLLM's own fields on OpenAI's routes:
https://docs.vllm.ai/en/latest/serving/openai_compatible_server/
"""

import json
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx
import numpy as np

from common import logging
from common.errors import AwayError, UserError

Floats = np.ndarray[Any, np.dtype[np.float64]]
A = TypeVar("A")
B = TypeVar("B")

PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds between attempts of one request."""
ASK_AGAIN = 1.0
"""Seconds between two looks at whether vLLM is ready."""


class VllmRefused(UserError):
    """vLLM answered that it cannot do what was asked, and would say so again."""


class Vllm:
    """vLLM at ``url`` (with or without ``/v1``), asked ``parallel`` things at a time. Calls block.

    Several servers may stand behind one name, with different bases: Kubernetes' headless Service gives the
    addresses of all. ``find`` settles on one that serves what is asked for.
    """

    def __init__(self, url: str, key: str | None, parallel: int) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        self._at, self._base = self.url, ""
        self._direct = _is_direct(self.url)
        self._client = httpx.Client(
            headers={
                "Host": urlsplit(self.url).netloc,
                **({"Authorization": f"Bearer {key}"} if key else {}),
            },
            timeout=httpx.Timeout(600, connect=5),
            # What is said of proxies names hosts, and here addresses are asked.
            trust_env=not self._direct,
        )
        self._threads = ThreadPoolExecutor(parallel, thread_name_prefix="vllm")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(cancel_futures=True)
        self._client.close()

    def find(self, base: str, seconds: float) -> list[str]:
        """Wait up to ``seconds`` until a server has ``base``, and ask that one from now on.

        Returns:
            The models that were served when it was found; without ``base``, if that was not within
            ``seconds``: what other servers had to offer, empty where none answered.

        Raises:
            VllmRefused: what answers is no vLLM, or does not take the key.
        """
        log, said = logging.get("system"), time.monotonic()
        deadline = said + seconds
        log.info("waiting for vllm", url=self.url, base=base, seconds=seconds)
        while base not in (names := self._look_for(base)):
            now = time.monotonic()
            if now >= deadline:
                return names
            if now - said >= 15:
                said = now
                log.info("still waiting for vllm", served=names, seconds_left=round(deadline - now))
            time.sleep(min(ASK_AGAIN, deadline - now))
        self._base = base
        return names

    def load(self, model: str) -> None:
        """Let vLLM load ``model``, by one token of an answer.

        Raises:
            VllmRefused: it does not know it, or cannot serve it; the sentence holds vLLM's own.
            AwayError: it does not answer, or cannot reach the store.
        """
        self._post("/v1/completions", {"model": model, "prompt": [0], "max_tokens": 1})

    def logprobs(self, model: str, ids: Sequence[int]) -> Floats:
        """Natural log-probability of each of ``ids`` (n,) given those before it; the first one's is 0."""
        body = {"model": model, "prompt": list(ids), "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
        found = self._post("/v1/completions", body)["choices"][0]["prompt_logprobs"]
        scored = [0.0, *(at[str(token)]["logprob"] for token, at in zip(ids[1:], found[1:], strict=True))]
        return np.array(scored)

    def prompt_ids(
        self,
        model: str,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[int]:
        """The token ids that its chat endpoint makes of ``messages``, the answer's opening included."""
        answer = self._chat(model, messages, tools, max_tokens=1, return_token_ids=True)
        return list(answer["prompt_token_ids"])

    def answer(
        self,
        model: str,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        *,
        max_tokens: int,
    ) -> str:
        """Its greedy answer to ``messages``."""
        answer = self._chat(model, messages, tools, max_tokens=max_tokens)
        return str(answer["choices"][0]["message"]["content"] or "")

    def map(self, function: Callable[[A], B], values: Iterable[A]) -> list[B]:
        """``function`` of each value, some at the same time, in their order; the first error is raised."""
        return list(self._threads.map(function, values))

    def _chat(
        self,
        model: str,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        **options: Any,
    ) -> dict[str, Any]:
        plain = [{key: value for key, value in message.items() if key != "weight"} for message in messages]
        # The template is shown the tools, and the answer stays text.
        given = {"tools": list(tools), "tool_choice": "none"} if tools else {}
        body = {"model": model, "messages": plain, "temperature": 0, **given, **options}
        return self._post("/v1/chat/completions", body)

    def _look_for(self, base: str) -> list[str]:
        """What the first server with ``base`` serves, which is asked from now on; else what all others do."""
        others: list[str] = []
        for address in _addresses(self.url) if self._direct else [self.url]:
            names = self._models(address)
            if base in names:
                self._at = address
                return names
            others += names
        return others

    def _models(self, address: str) -> list[str]:
        try:
            answer = self._client.get(f"{address}/v1/models", timeout=10)
        except httpx.HTTPError:
            return []
        if answer.is_success:
            return [model["id"] for model in answer.json()["data"]]
        if answer.status_code in (401, 403, 404):
            raise VllmRefused(f"{self.url}/v1/models: {_message(answer)}: check VLLM_BASE_URL and its key")
        return []

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        trouble = ""
        for pause in (*PAUSES, None):
            try:
                answer = self._client.post(f"{self._at}{path}", json=body)
            except httpx.HTTPError as error:
                trouble = str(error) or type(error).__name__
                if self._base:
                    self._look_for(self._base)  # its pod went: another may have come
            else:
                if answer.is_success and not _aborted(given := dict(answer.json())):
                    return given
                if 400 <= answer.status_code < 500 and answer.status_code not in (408, 429):
                    raise VllmRefused(f"vLLM at {self.url} refuses {body['model']}: {_message(answer)}")
                trouble = "it is shutting down" if answer.is_success else _message(answer)
            if pause is not None:
                time.sleep(pause)
        raise AwayError(f"vLLM at {self.url} does not serve {body['model']} now: {trouble}")


def _is_direct(url: str) -> bool:
    """Whether the servers behind the name are asked by address: neither certificate nor proxy needs it."""
    parts = urlsplit(url)
    return parts.scheme == "http" and ("http" not in getproxies() or bool(proxy_bypass(parts.netloc)))


def _addresses(url: str) -> list[str]:
    """``url`` once for each address behind its name; as it is where the name is not known (yet)."""
    parts = urlsplit(url)
    port = parts.port or 80
    try:
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except OSError:
        return [url]
    hosts = dict.fromkeys(str(address[0]) for *_, address in found)
    return [f"http://{f'[{host}]' if ':' in host else host}:{port}{parts.path}" for host in hosts]


def _aborted(answer: Mapping[str, Any]) -> bool:
    """Whether vLLM broke off: while it drains it answers 200 to what it will not do any more."""
    return any(choice.get("finish_reason") == "abort" for choice in answer["choices"])


def _message(answer: httpx.Response) -> str:
    """The sentence in OpenAI's error shape, else the status and the start of the body."""
    try:
        return str(answer.json()["error"]["message"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return f"{answer.status_code} {answer.text.strip()[:200]}".strip()
