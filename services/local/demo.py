"""``make demo``: the whole idea on one machine without a GPU, in one story.

Fetch a small model, start MLflow, vLLM, gateway, control and UI, fine-tune an adapter on the shipped samples
through the API, let the gate judge it, promote it, and ask base and adapter the same held-out questions.
Exits 0 only if the adapter's answers came from the adapter through the gateway, its held-out loss improved,
and it passed the gate.
"""

import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from common import models
from common.errors import UserError
from services.local import installation as parts
from services.local import questions, state
from services.local.api import Api
from services.local.follow import follow
from services.local.installation import Installation
from services.local.processes import Processes

BASE = "SmolLM2-135M-Instruct"
BOT = "juniper"
SAMPLES = parts.ROOT / "jobs" / "samples"
STATE_GIGABYTES = 2
SHOWN = 8


@dataclass(frozen=True)
class Comparison:
    """What base and adapter answered, and what the gate said of the version."""

    version: dict[str, Any]
    base: questions.Asked
    adapter: questions.Asked
    unrelated: questions.Asked


def main() -> None:
    """Tell the story, in order."""
    console = Console()
    started = time.monotonic()
    folder = state.folder("demo")
    check_disk(folder)
    installation = Installation.open(folder)
    model = fetch_model(console)
    start_platform(installation, model, console)
    api = Api(installation.gateway_url, installation.secrets.api_key)
    version = trained_version(api) or fine_tune(api, console)
    Processes(installation.state).wait(parts.vllm(installation, model.path))
    promote(api, version)
    comparison = compare(api, version, console)
    report(comparison, installation, api, console)
    save(comparison, installation)
    judge(comparison)
    console.print(f"\n[bold]Done in {time.monotonic() - started:.0f} s.[/bold] `make demo-stop` stops it.")


def check_disk(folder: Path) -> None:
    """Refuse to begin what the disk cannot hold."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free / (1 << 30)
    if free < STATE_GIGABYTES:
        raise UserError(
            f"the demo needs {STATE_GIGABYTES} GiB of disk for {folder}, {free:.1f} GiB are free: "
            "free some, or set ONGGI_STATE to a folder on a larger disk"
        )


def fetch_model(console: Console) -> models.BaseModel:
    """The base model, fetched unless it is there."""
    console.print(f"[bold]1.[/bold] model {BASE}")
    fetched = subprocess.run([sys.executable, "-m", "jobs.download", BASE], cwd=parts.ROOT, check=False)
    if fetched.returncode:
        raise UserError(f"the model {BASE} could not be fetched: see the line above")
    return models.resolve(BASE, models.default_cache_dir())


def start_platform(installation: Installation, model: models.BaseModel, console: Console) -> None:
    """Start every process in the background; vLLM, the slowest, may still be loading on return."""
    processes = Processes(installation.state)
    mlflow, api = parts.mlflow(installation), parts.training_api(installation, model)
    services = [mlflow, api, parts.vllm(installation, model.path), parts.ui(installation)]
    started = [service.name for service in services if processes.start(service)]
    console.print(
        f"[bold]2.[/bold] {'starting ' + ', '.join(started) if started else 'everything runs already'}"
    )
    for service in (mlflow, api):
        processes.wait(service)


def trained_version(api: Api) -> str | None:
    """A version that an earlier demo trained on just these samples and that the gate passed."""
    digest = f"sha256:{models.file_sha256(SAMPLES / 'train.jsonl')}"
    for version in api.get("/onggi/v1/versions")["data"]:
        if version["bot"] == BOT and version["dataset_digest"] == digest and version["state"] == "passed":
            return str(version["name"])
    return None


def fine_tune(api: Api, console: Console) -> str:
    """Fine-tune through the API as an app would, and follow it to the gate's verdict."""
    console.print("[bold]3.[/bold] fine-tuning through POST /v1/fine_tuning/jobs")
    job = api.post(
        "/v1/fine_tuning/jobs",
        {
            "model": BASE,
            "training_file": api.upload(SAMPLES / "train.jsonl"),
            "validation_file": api.upload(SAMPLES / "heldout.jsonl"),
            "suffix": BOT,
            "seed": 1,
            "onggi": {"recipe": "demo"},
        },
    )
    return follow(api, job, console)


def promote(api: Api, version: str) -> None:
    """Make ``version`` the bot's champion unless it is already."""
    bot = api.get(f"/onggi/v1/bots/{BOT}")
    number = int(version.partition("@")[2])
    if bot["champion"] != number:
        api.post(f"/onggi/v1/bots/{BOT}/promote", {"version": number, "generation": bot["generation"]})


def compare(api: Api, version: str, console: Console) -> Comparison:
    """Ask base and adapter the held-out questions, and the adapter unrelated ones."""
    console.print("[bold]4.[/bold] asking base and adapter the same held-out questions")
    held_out = questions.load(SAMPLES / "questions.jsonl")
    return Comparison(
        version=api.get(f"/onggi/v1/versions/{version}"),
        base=questions.ask(api, BASE, held_out),
        adapter=questions.ask(api, BOT, held_out),
        unrelated=questions.ask(api, BOT, questions.load(SAMPLES / "unrelated.jsonl")),
    )


def report(comparison: Comparison, installation: Installation, api: Api, console: Console) -> None:
    """Print the answers side by side, the figures and where to go on."""
    base, adapter, unrelated = comparison.base, comparison.adapter, comparison.unrelated
    questions.show(console, base, adapter, rows=SHOWN)
    console.print(
        f"held-out questions right: base {base.right} of {len(base.answers)}, "
        f"{comparison.version['name']} {adapter.right} of {len(adapter.answers)}\n"
        f"unrelated questions without a leak: {unrelated.clean} of {len(unrelated.answers)}\n"
        f"the gate: {comparison.version['sentence']}",
        highlight=False,
    )
    invite = api.post("/onggi/v1/people/invites", {"role": "owner"})
    console.print(
        f"\nchat     {installation.ui_url}/?invite={invite['token']}\n"
        f"API      {installation.gateway_url}/v1  (key in {installation.state / 'secrets.json'})\n"
        f"API docs {installation.gateway_url}/docs\n"
        f"admin    {installation.gateway_url}/admin  (owner, password in the same file)\n"
        f"MLflow   {installation.mlflow_url}",
        highlight=False,
        soft_wrap=True,
    )


def save(comparison: Comparison, installation: Installation) -> None:
    """Keep the figures where a program can read them."""
    figures = {
        "version": comparison.version["name"],
        "state": comparison.version["state"],
        "base_right": comparison.base.right,
        "adapter_right": comparison.adapter.right,
        "questions": len(comparison.base.answers),
        "unrelated_clean": comparison.unrelated.clean,
        "unrelated": len(comparison.unrelated.answers),
        "figures": comparison.version["figures"],
    }
    (installation.state / "demo.json").write_text(json.dumps(figures, indent=2))


def judge(comparison: Comparison) -> None:
    """Hold the demo to its promise.

    Raises:
        UserError: naming each promise that was not kept.
    """
    base, adapter, version = comparison.base, comparison.adapter, comparison.version
    kept = {
        f"every answer of the adapter came from {version['name']}": all(
            answer.served_by == version["name"] for answer in adapter.answers
        ),
        "the base's answers came from the base": all(answer.served_by == BASE for answer in base.answers),
        "held-out loss improved": version["figures"]["held_out_improvement"] > 0,
        "the gate passed the version": version["state"] == "passed",
    }
    broken = [promise for promise, held in kept.items() if not held]
    if broken:
        raise UserError(f"the demo ran, but this did not hold: {'; '.join(broken)}")
