"""A small client of the platform's HTTP API, as an owner uses it with a key."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx

from common.errors import UserError

PARALLEL_QUESTIONS = 8
ANSWER_TOKENS = 64


@dataclass(frozen=True)
class Answer:
    """What a model said, and the model that the gateway says it came from."""

    text: str
    served_by: str


class Api:
    """The owner's calls; every refusal becomes a ``UserError`` with the server's own sentence."""

    def __init__(self, url: str, key: str, transport: httpx.BaseTransport | None = None) -> None:
        self._client = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=120,
            trust_env=False,
            transport=transport,
        )

    def get(self, path: str) -> dict[str, Any]:
        """GET ``path`` as JSON."""
        return self._checked(self._client.get(path))

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST ``body`` as JSON."""
        return self._checked(self._client.post(path, json=body))

    def patch(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """PATCH ``path`` with ``body`` as JSON."""
        return self._checked(self._client.patch(path, json=body))

    def delete(self, path: str) -> dict[str, Any]:
        """DELETE ``path``."""
        return self._checked(self._client.delete(path))

    def upload(self, path: Path) -> str:
        """Upload a training file; its id."""
        with path.open("rb") as file:
            answer = self._client.post(
                "/v1/files", files={"file": (path.name, file)}, data={"purpose": "fine-tune"}
            )
        return cast(str, self._checked(answer)["id"])

    def ask(self, model: str, question: str) -> Answer:
        """One question to ``model``, answered greedily."""
        response = self._client.post(
            "/v1/chat/completions",
            json={
                "model": model,
                "messages": [{"role": "user", "content": question}],
                "temperature": 0,
                "max_tokens": ANSWER_TOKENS,
            },
        )
        body = self._checked(response)
        text = body["choices"][0]["message"]["content"] or ""
        return Answer(text.strip(), response.headers.get("x-onggi-model", ""))

    def ask_all(self, model: str, questions: list[str]) -> list[Answer]:
        """Every question, a few at a time, answers in the questions' order."""
        with ThreadPoolExecutor(PARALLEL_QUESTIONS) as pool:
            return list(pool.map(lambda question: self.ask(model, question), questions))

    def _checked(self, response: httpx.Response) -> dict[str, Any]:
        if response.is_success:
            return cast(dict[str, Any], response.json())
        try:
            reason = response.json()["error"]["message"]
        except (ValueError, KeyError, TypeError):
            reason = response.text[:300]
        raise UserError(
            f"{response.request.method} {response.request.url.path} -> {response.status_code}: {reason}"
        )
