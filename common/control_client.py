"""Jobs to control: what they report, and what they ask. Bounded retries; a job waits seconds.

A report that does not arrive loses nothing: control repairs its table from MLflow every 30 s.
"""

import json
import time
from typing import Any

from pydantic import BaseModel

from common.errors import AwayError, UserError, is_passing
from common.names import VersionName

PAUSES = (0.5, 1.0, 2.0)
"""Seconds between the attempts: what jobs send says the same when it arrives twice."""

SECONDS = 10.0
"""How long one answer may take; an upload may take longer."""
UPLOAD_SECONDS = 600.0


class ControlUnavailable(AwayError):
    """Control does not answer."""


class ControlRefused(UserError):
    """Control answered and said no, with HTTP status ``status``; ``reason`` is its own sentence."""

    def __init__(self, sentence: str, status: int, reason: str = "") -> None:
        super().__init__(sentence)
        self.status = status
        self.reason = reason or sentence


class ControlClient:
    """Control at ``url``, to which a job shows ``token`` (CONTROL_TOKEN). Calls block."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"}

    def report_version(self, name: VersionName) -> None:
        """Say that version ``name`` is complete in MLflow and in the store.

        Raises:
            ControlUnavailable: it did not answer in four attempts.
            ControlRefused: it said no.
        """
        self.post(f"/onggi/v1/versions/{name}/report", {})

    def report_verdict(self, name: VersionName, verdict: BaseModel) -> None:
        """Hand in the evaluation's ``common.verdict.Verdict`` on version ``name``; raises the same."""
        self.post(f"/onggi/v1/versions/{name}/verdict", verdict.model_dump(mode="json"))

    def bots(self) -> list[str]:
        """Every bot's name; raises the same."""
        return [str(bot["name"]) for bot in self.get("/onggi/v1/bots")["data"]]

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """GET ``path`` as JSON; raises the same."""
        return self._ask("GET", path, params=query)

    def post(self, path: str, body: dict[str, Any], key: str | None = None) -> dict[str, Any]:
        """POST ``body`` to ``path``; the answer's JSON. Raises the same.

        ``key`` is an Idempotency-Key: what was made with it before is the answer.
        """
        return self._ask("POST", path, _keyed(key), json=body)

    def patch(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """PATCH ``path``; the answer's JSON. Raises the same."""
        return self._ask("PATCH", path, json=body)

    def upload(self, name: str, content: bytes, key: str) -> str:
        """Upload JSON Lines as file ``name``, once a ``key``; the file's id. Raises the same."""
        form = {"file": (name, content, "application/jsonl"), "purpose": (None, "fine-tune")}
        return str(self._ask("POST", "/v1/files", _keyed(key), UPLOAD_SECONDS, files=form)["id"])

    def _ask(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        seconds: float = SECONDS,
        **sent: Any,
    ) -> dict[str, Any]:
        import httpx

        trouble = ""
        for pause in (*PAUSES, None):
            try:
                answer = httpx.request(
                    method,
                    f"{self._url}{path}",
                    headers=self._headers | (headers or {}),
                    timeout=httpx.Timeout(seconds, connect=2),
                    **sent,
                )
            except httpx.HTTPError as error:
                trouble = str(error) or type(error).__name__
            else:
                if answer.is_success:
                    return dict(answer.json())
                if not is_passing(answer.status_code):
                    reason = _message(answer.text)
                    sentence = f"control at {self._url} refused {path}: {reason}"
                    raise ControlRefused(sentence, answer.status_code, reason)
                trouble = f"{answer.status_code}: {_message(answer.text)}"
            if pause is not None:
                time.sleep(pause)
        raise ControlUnavailable(f"control does not answer at {self._url} ({trouble}): check CONTROL_URL")


def _keyed(key: str | None) -> dict[str, str]:
    return {"Idempotency-Key": key} if key else {}


def _message(text: str) -> str:
    """The sentence in OpenAI's error shape, else the start of the body."""
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return text.strip()[:200]
