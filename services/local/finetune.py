"""``make finetune``: upload rows, start a fine-tune through the API, follow it to the gate's verdict.

    make finetune DATA=rows.jsonl BOT=support-bot KEY=sk-... [URL=https://onggi.example.com]
                  [VALIDATION=held_out.jsonl] [MODEL=Qwen2.5-7B-Instruct] [RECIPE=lora-32gb]

Interrupted, the job goes on; the same API follows it. URL is the Ingress, or control by way of
``kubectl -n onggi port-forward service/onggi-control 8080``.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from common import errors
from common.errors import UserError
from common.names import check_bot_name
from services.local.api import Api
from services.local.follow import follow

URL = "http://127.0.0.1:8080"
USAGE = "make finetune DATA=rows.jsonl BOT=support-bot KEY=sk-..."


def main() -> None:
    """Do what the variables ask."""
    url = os.environ.get("URL") or URL
    try:
        finetune(url, os.environ, Console())
    except httpx.TransportError as error:
        forward = f"kubectl -n onggi port-forward service/onggi-control {URL.rpartition(':')[2]}"
        raise UserError(f"{url} does not answer ({error}): give URL=, or run `{forward}`") from None


def finetune(url: str, given: Mapping[str, str], console: Console) -> None:
    """Upload, start, follow, and say what the gate says."""
    data, bot = _file(given, "DATA"), check_bot_name(_needed(given, "BOT"))
    api = Api(url, _needed(given, "KEY"))
    console.print(f"[bold]1.[/bold] uploading {data} to {url}", highlight=False)
    job = api.post("/v1/fine_tuning/jobs", request(api, given, data, bot))
    console.print(f"[bold]2.[/bold] {job['id']} trains {bot} from {job['model']}", highlight=False)
    version = follow(api, job, console)
    judged = api.get(f"/onggi/v1/versions/{version}")
    said = judged["sentence"] or "not judged, a person decides"
    console.print(f"[bold]{version}[/bold] {judged['state']}: {said}", highlight=False)


def request(api: Api, given: Mapping[str, str], data: Path, bot: str) -> dict[str, Any]:
    """The job's request, its files uploaded."""
    asked: dict[str, Any] = {
        "model": given.get("MODEL") or _base_of(api, bot),
        "training_file": api.upload(data),
        "suffix": bot,
    }
    if given.get("VALIDATION"):
        asked["validation_file"] = api.upload(_file(given, "VALIDATION"))
    if given.get("RECIPE"):
        asked["onggi"] = {"recipe": given["RECIPE"]}
    return asked


def _base_of(api: Api, bot: str) -> str:
    """The base that the bot has already.

    Raises:
        UserError: there is no such bot yet.
    """
    bots = {one["name"]: one["base"] for one in api.get("/onggi/v1/bots")["data"]}
    if bot not in bots:
        raise UserError(f"{bot} is new, so say which base it starts from: MODEL=Qwen2.5-7B-Instruct")
    return str(bots[bot])


def _needed(given: Mapping[str, str], name: str) -> str:
    if not given.get(name):
        raise UserError(f"{name} is missing: {USAGE}")
    return given[name]


def _file(given: Mapping[str, str], name: str) -> Path:
    path = Path(_needed(given, name))
    if not path.is_file():
        raise UserError(f"{name}={path} is no file: name a JSON Lines file of chat rows")
    return path


if __name__ == "__main__":
    errors.run(main)
