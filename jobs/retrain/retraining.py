"""The stages of a retrain: is it due, make the dataset, claim it, upload it, ask for the fine-tune.

Each stage says the same when it is done twice: the same words make the same bytes, a dataset is claimed once,
and files and the fine-tune are made under keys of that claim. So a retrain that was killed anywhere is gone
on with by running it again, and of two that run at once both end with one fine-tune.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from common import logging
from common.control_client import ControlClient, ControlRefused
from jobs.curate.curating import curate
from jobs.curate.dataset import Curated, TooLittle
from jobs.prepare.folder import HELD_OUT, TRAIN
from jobs.retrain.config import RetrainConfig

FAILED = ("failed", "cancelled")
ERASED = 409
"""What control answers to a dataset, or to a file, whose words were erased since they were read."""


@dataclass(frozen=True)
class Outcome:
    """What became of one bot's retrain, in a sentence."""

    bot: str
    state: Literal["started", "waits", "refused", "would start"]
    sentence: str
    job_id: str | None = None


def retrain(control: ControlClient, bot: str, config: RetrainConfig, now: datetime) -> Outcome:
    """Retrain ``bot`` if it is due at ``now``.

    Raises:
        ControlUnavailable: control is away; what was done so far is gone on with next time.
        UserError: MLflow is away, or there is no such bot.
    """
    progress = control.get(f"/onggi/v1/bots/{bot}/progress")
    if reason := not_yet(progress, config, now):
        return Outcome(bot, "waits", reason)
    try:
        curated = curate(control, bot, config)
    except TooLittle as little:
        return Outcome(bot, "waits", str(little))
    if config.dry_run:
        return Outcome(bot, "would start", f"a fine-tune of {progress['base']} on {describe(curated)}")
    outcome = _start(control, bot, str(progress["base"]), curated, config)
    logging.get("system").info("retrain", bot=bot, state=outcome.state, job_id=outcome.job_id)
    return outcome


def not_yet(progress: dict[str, Any], config: RetrainConfig, now: datetime) -> str | None:
    """Why no retrain begins now; None when one is due."""
    if progress["under_way"]:
        return f"fine-tune {progress['under_way']} is under way: when it has ended, ask again"
    if config.force:
        return None
    minimum = config.minimum or int(progress["needed"])
    if not progress["erased"] and progress["corrections"] < minimum:
        return f"{progress['corrections']} of {minimum} corrections until the next retrain"
    if not config.is_quiet(now):
        return f"it is due, and begins in the quiet hours, {config.quiet_hours} {config.timezone}"
    if config.gpu_hours is not None and progress["gpu_hours"] >= config.gpu_hours:
        return (
            f"it is due, but this month's fine-tunes took {progress['gpu_hours']:g} of {config.gpu_hours:g} "
            "GPU-hours: raise gpu_hours, or wait for the next month"
        )
    return None


def describe(curated: Curated) -> str:
    """The dataset in a few words."""
    rows = curated.figures["rows"]
    scrubbed = sum(curated.figures["personal_data"].values())
    return (
        f"{rows[TRAIN]} rows and {rows[HELD_OUT]} held out, {curated.figures['corrections']} corrections; "
        f"{scrubbed} pieces of personal data replaced, {curated.figures['left_out']} rows left out; "
        f"{curated.digest}"
    )


def _start(control: ControlClient, bot: str, base: str, curated: Curated, config: RetrainConfig) -> Outcome:
    claim = {"bot": bot, "dataset_digest": curated.digest, "author": config.author}
    claimed = control.post("/onggi/v1/retrains", claim)
    if claimed["state"] != "claimed" and (ended := _ended(control, claimed, config)):
        return Outcome(bot, "waits", ended, claimed["job_id"])
    path = f"/onggi/v1/retrains/{claimed['id']}"
    try:
        files = _upload(control, bot, claimed["id"], curated)
    except ControlRefused as refused:
        if refused.status != ERASED:
            raise
        return Outcome(bot, "waits", f"people's words were erased meanwhile, so it begins anew: {refused}")
    # After a failure another fine-tune is made; asked for twice, the same one.
    key = f"{claimed['id']}:{claimed['job_id'] or 'first'}:{_attempt(claimed)}"
    try:
        job = control.post(
            "/v1/fine_tuning/jobs", _request(bot, base, claimed["id"], curated, files, config), key
        )
    except ControlRefused as refused:
        control.patch(path, {"state": "refused", "reason": str(refused)})
        return Outcome(bot, "refused", str(refused))
    control.patch(path, {"state": "started", "job_id": job["id"]})
    return Outcome(bot, "started", f"fine-tune {job['id']} on {describe(curated)}", job["id"])


def _attempt(claimed: dict[str, Any]) -> str:
    """What was refused is asked for anew, and not answered from memory."""
    return str(claimed["updated_at"]) if claimed["state"] == "refused" else ""


def _ended(control: ControlClient, claimed: dict[str, Any], config: RetrainConfig) -> str | None:
    """Why a dataset that was trained on, or refused, is not trained on again; None when it is to be."""
    if claimed["state"] == "refused":
        reason = f"it was refused before: {claimed['reason']}; mend that and use force"
        return None if config.force else reason
    job = _job(control, claimed["job_id"])
    if job["status"] not in FAILED:
        return f"nothing was said since {claimed['job_id']}, which learned from the same rows"
    if config.force:
        return None
    why = (job["error"] or {}).get("message", f"it was {job['status']}")
    return f"fine-tune {claimed['job_id']} on the same rows failed: {why} Mend that and use force"


def _job(control: ControlClient, job_id: str) -> dict[str, Any]:
    try:
        return control.get(f"/v1/fine_tuning/jobs/{job_id}")
    except ControlRefused as refused:
        if refused.status != 404:
            raise
        return {"status": "succeeded"}  # its record is gone, what it made is not


def _upload(control: ControlClient, bot: str, claim: str, curated: Curated) -> dict[str, str]:
    """The dataset's files in the store; file ids by name.

    Control is told first what they come from: an erasure then finds them wherever this is cut off.
    """
    dataset = {
        "digest": curated.digest,
        "bot": bot,
        "retrain_id": claim,
        "files": list(curated.files),
        "sources": curated.sources,
        "figures": curated.figures,
    }
    control.post("/onggi/v1/datasets", dataset)
    short = curated.digest.removeprefix("sha256:")[:12]
    return {
        name: control.upload(f"{bot}-{short}-{name}", content, f"{claim}:{name}")
        for name, content in curated.files.items()
    }


def _request(
    bot: str, base: str, claim: str, curated: Curated, files: dict[str, str], config: RetrainConfig
) -> dict[str, Any]:
    """The fine-tune: the base on the whole dataset, never an earlier adapter; one seed for the same rows.

    One chat that is too long for the recipe, or that quotes a control token, must not stop it: only the
    fine-tune has the base's tokenizer, and leaves such a row out.
    """
    recipe = {"recipe": config.recipe} if config.recipe else {}
    return {
        "model": base,
        "training_file": files[TRAIN],
        "validation_file": files[HELD_OUT],
        "suffix": bot,
        "seed": int(curated.digest.removeprefix("sha256:")[:7], 16),
        "metadata": {"retrain": claim, "dataset": curated.digest, "author": config.author},
        "onggi": {"leave_out": True, **recipe},
    }
