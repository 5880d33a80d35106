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

CONFLICT = 409
"""What control answers to a claim that must wait or was settled, and to words erased since they were read."""


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
        RegistryUnavailable: MLflow is away.
        UserError: there is no such bot, or MLflow refuses.
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
    if not progress["due_for_erasure"] and progress["corrections"] < minimum:
        count = f"{progress['corrections']} of {minimum} corrections until the next retrain"
        return f"{count}. {progress['failed']}" if progress["failed"] else count
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
    try:
        claimed = _claim(control, bot, curated.digest, config)
        files = _upload(control, bot, claimed["id"], curated)
        # Whoever was held up so long that another took over, or lost words to an erasure, is told so here.
        claimed = _claim(control, bot, curated.digest, config, claimed["id"])
    except ControlRefused as refused:
        if refused.status != CONFLICT:
            raise
        return Outcome(bot, "waits", refused.reason)
    return _begin(control, bot, _request(bot, base, claimed["id"], curated, files, config), claimed, curated)


def _claim(
    control: ControlClient, bot: str, digest: str, config: RetrainConfig, going_on_with: str | None = None
) -> dict[str, Any]:
    claim = {"bot": bot, "dataset_digest": digest, "author": config.author, "force": config.force}
    return control.post("/onggi/v1/retrains", claim | {"retrain_id": going_on_with})


def _begin(
    control: ControlClient, bot: str, request: dict[str, Any], claimed: dict[str, Any], curated: Curated
) -> Outcome:
    """Ask for the fine-tune; after one that failed it is another, and asked for twice the same one."""
    path = f"/onggi/v1/retrains/{claimed['id']}"
    try:
        job = control.post("/v1/fine_tuning/jobs", request, f"{claimed['id']}:{claimed['job_id'] or 'first'}")
    except ControlRefused as refused:
        control.patch(path, {"state": "refused", "reason": refused.reason})
        return Outcome(bot, "refused", refused.reason)
    control.patch(path, {"state": "started", "job_id": job["id"]})
    return Outcome(bot, "started", f"fine-tune {job['id']} on {describe(curated)}", job["id"])


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
