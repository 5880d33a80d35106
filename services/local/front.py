"""``make front``: gateway, control, UI and database before an endpoint that exists (URL, KEY, MODEL)."""

import os
import time
from typing import Any
from urllib.parse import urlsplit

import httpx
from rich.console import Console

from common.errors import UserError
from services.local import installation as parts
from services.local import state
from services.local.api import Api
from services.local.installation import Installation
from services.local.processes import Processes


def main() -> None:
    """Check the endpoint, start everything before it, and say where it is."""
    console = Console()
    started = time.monotonic()
    url, key = os.environ.get("URL", ""), os.environ.get("KEY", "")
    model = os.environ.get("MODEL") or first_model(url, key)
    installation = Installation.open(state.folder("front"))
    upstream = {"VLLM_BASE_URL": url, "UPSTREAM_API_KEY": key, "DEFAULT_MODEL": model, "RUNNER": "none"}
    services = [parts.api(installation, upstream), parts.ui(installation)]
    processes = Processes(installation.state)
    for service in services:
        processes.start(service)
    for service in services:
        processes.wait(service)
    api = Api(installation.gateway_url, installation.secrets.api_key)
    invite = api.post("/onggi/v1/people/invites", {"role": "owner"})
    console.print(
        f"In front of {url}, model {model}, after {time.monotonic() - started:.0f} s:\n"
        f"chat   {installation.ui_url}/?invite={invite['token']}\n"
        f"API    {installation.gateway_url}/v1  (key in {installation.state / 'secrets.json'})\n"
        f"admin  {installation.gateway_url}/admin  (owner, password in the same file)\n"
        "`make front-stop` stops it; what people say stays.",
        highlight=False,
        soft_wrap=True,
    )


def first_model(url: str, key: str) -> str:
    """The first model that the endpoint lists.

    Raises:
        UserError: there is no URL, no answer, or no model.
    """
    if not url.startswith(("http://", "https://")):
        raise UserError("say which endpoint: make front URL=http://127.0.0.1:11434/v1 [KEY=...] [MODEL=...]")
    listed = _list_models(endpoint(url), key)
    if not listed:
        raise UserError(f"{url} lists no model: name one with MODEL=...")
    return str(listed[0]["id"])


def endpoint(url: str) -> str:
    """The address that ``/models`` is added to: ``/v1`` is the path of one without."""
    return url.rstrip("/") if urlsplit(url).path.strip("/") else f"{url.rstrip('/')}/v1"


def _list_models(root: str, key: str) -> list[dict[str, Any]]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        response = httpx.get(f"{root}/models", headers=headers, timeout=10)
    except httpx.HTTPError as error:
        raise UserError(f"{root}/models does not answer ({error}): check URL") from None
    if response.status_code in (401, 403):
        raise UserError(f"{root}/models answers {response.status_code}: check KEY")
    if not response.is_success:
        raise UserError(f"{root}/models answers {response.status_code}: is it OpenAI-compatible?")
    return list(response.json().get("data") or [])
