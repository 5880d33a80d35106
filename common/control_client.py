"""Jobs to control: a version is there, and what its evaluation said. Bounded retries; a job waits seconds.

A report that does not arrive loses nothing: control repairs its table from MLflow every 30 s.
"""

import json
import time
from typing import Any

from pydantic import BaseModel

from common.errors import UserError
from common.names import VersionName

PAUSES = (0.5, 1.0, 2.0)
"""Seconds between the attempts; both reports say the same when they arrive twice."""


class ControlUnavailable(UserError):
    """Control does not answer."""


class ControlRefused(UserError):
    """Control answered and said no."""


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
        self._post(f"/onggi/v1/versions/{name}/report", {})

    def report_verdict(self, name: VersionName, verdict: BaseModel) -> None:
        """Hand in the evaluation's ``common.verdict.Verdict`` on version ``name``; raises the same."""
        self._post(f"/onggi/v1/versions/{name}/verdict", verdict.model_dump(mode="json"))

    def _post(self, path: str, body: dict[str, Any]) -> None:
        import httpx

        trouble = ""
        for pause in (*PAUSES, None):
            try:
                answer = httpx.post(
                    f"{self._url}{path}",
                    json=body,
                    headers=self._headers,
                    timeout=httpx.Timeout(10, connect=2),
                )
            except httpx.HTTPError as error:
                trouble = str(error) or type(error).__name__
            else:
                if answer.is_success:
                    return
                if answer.status_code < 500 and answer.status_code != 429:
                    raise ControlRefused(f"control at {self._url} refused {path}: {_message(answer.text)}")
                trouble = f"{answer.status_code}: {_message(answer.text)}"
            if pause is not None:
                time.sleep(pause)
        raise ControlUnavailable(f"control does not answer at {self._url} ({trouble}): check CONTROL_URL")


def _message(text: str) -> str:
    """The sentence in OpenAI's error shape, else the start of the body."""
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return text.strip()[:200]
