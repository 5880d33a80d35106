"""Fine-tuning jobs: from a request to a runner's job, and from a job to what the caller is shown."""

import asyncio
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from common import models
from common.errors import TooBigError, UserError
from common.finetune_config import FinetuneConfig
from common.job_config import load_yaml
from common.names import VersionName, check_bot_name
from common.openai_errors import OpenAIError, invalid, not_found
from common.settings import explain
from services.control.bases import Base, find_base
from services.control.context import Control
from services.control.datasets import prepare
from services.control.runner import Job, JobSpec, Runner
from services.control.settings import ROOT, ControlSettings
from services.control.shapes.fine_tuning import Hyperparameters, JobCreate
from services.database.credentials import Caller
from services.database.queries import bots, files
from services.database.tables import File, keyed_id, new_id

RECIPES = ROOT / "jobs" / "recipes"
# What a recipe names so that it runs by hand as it stands; through the API the request says it.
_OF_THE_JOB = frozenset({"bot", "base", "data", "validation", "output", "restart"})


async def create(control: Control, caller: Caller, request: JobCreate, key: str | None = None) -> Job:
    """Check everything that can be checked before a GPU is asked for, then hand the job to the runner.

    ``key`` is the caller's for this job: asked for again with it, the first one is the answer.

    Raises:
        OpenAIError: 400 with what is wrong and where; 503 when this installation cannot fine-tune now.
    """
    runner = require_runner(control)
    if key is None:
        return await _create(control, runner, caller, request, new_id("ftjob-"))
    job_id = keyed_id("ftjob-", caller.person_id, key)
    async with control.making:  # one at a time: of two with one key, the later finds the earlier's
        job = await asyncio.to_thread(runner.get, job_id)
        return job or await _create(control, runner, caller, request, job_id)


async def _create(control: Control, runner: Runner, caller: Caller, request: JobCreate, job_id: str) -> Job:
    bot = _bot(request)
    asked = _hyperparameters(request)
    base = await asyncio.to_thread(base_model, request.model, control.settings)
    training = await _file(control, caller, request.training_file, "training_file")
    validation = None
    if request.validation_file:
        validation = await _file(control, caller, request.validation_file, "validation_file")
    seed = secrets.randbelow(2**31) if request.seed is None else request.seed
    spec = JobSpec(
        id=job_id,
        person_id=caller.person_id,
        created_at=time.time(),
        bot=bot,
        base=base.name,
        training_file=training.id,
        validation_file=validation.id if validation else None,
        hyperparameters=asked.model_dump(),
        seed=seed,
        metadata=request.metadata,
        config=_config(request, asked, control, _fixed(job_id, bot, base, seed)),
        regression_set=str(control.settings.regression_set),
        held_out_rows=0,
        node_class=request.onggi.node_class,
    )
    with _mistakes("model"):
        await asyncio.to_thread(runner.check, spec)
    return await _start(control, runner, spec, base, training, validation)


def require_runner(control: Control) -> Runner:
    """The runner.

    Raises:
        OpenAIError: 503, this installation cannot fine-tune.
    """
    if control.runner is None or not control.settings.mlflow_tracking_uri:
        missing = "RUNNER=local or kubernetes" if control.runner is None else "MLFLOW_TRACKING_URI"
        raise OpenAIError(503, f"This installation cannot fine-tune: set {missing}.", code="no_runner")
    return control.runner


async def get(control: Control, caller: Caller, job_id: str) -> Job:
    """A job that the caller may see: their own, or for an owner anybody's.

    Raises:
        OpenAIError: 404.
    """
    runner = require_runner(control)
    job = await asyncio.to_thread(runner.get, job_id)
    if job is None or not may_see(caller, job):
        raise not_found(f"No fine-tuning job {job_id!r}: list yours with GET /v1/fine_tuning/jobs.", "id")
    return job


def may_see(caller: Caller, job: Job) -> bool:
    """Whether ``job`` is the caller's, or the caller is an owner."""
    return caller.is_owner or job.spec.person_id == caller.person_id


async def _start(
    control: Control, runner: Runner, spec: JobSpec, base: Base, training: File, validation: File | None
) -> Job:
    incoming = incoming_folder(control) / spec.id
    try:
        held = await asyncio.to_thread(_prepare, control, training, validation, incoming)
        async with control.database.session() as session:
            await bots.ensure(session, spec.bot, spec.person_id, base.name, base.revision or None)
        with _mistakes("model"):
            await asyncio.to_thread(runner.start, spec.model_copy(update={"held_out_rows": held}), incoming)
        await asyncio.to_thread(runner.tick)
    finally:
        await asyncio.to_thread(shutil.rmtree, incoming, ignore_errors=True)
    job = await asyncio.to_thread(runner.get, spec.id)
    assert job is not None
    return job


def incoming_folder(control: Control) -> Path:
    """Where a job's rows are gathered before the runner takes them; on the jobs' own file system."""
    return control.settings.jobs_dir.resolve() / "incoming"


def _prepare(control: Control, training: File, validation: File | None, folder: Path) -> int:
    folder.mkdir(parents=True)
    return prepare(control.store(), training, validation, folder)


def _fixed(job_id: str, bot: str, base: Base, seed: int) -> dict[str, Any]:
    """What neither recipe nor request decides."""
    ranks = {"max_serving_rank": base.max_rank} if base.max_rank else {}
    return {"job_id": job_id, "bot": bot, "base": base.name, "seed": seed} | ranks


def _bot(request: JobCreate) -> str:
    if not request.suffix:
        raise invalid("suffix is missing: it names the bot that gets the new version.", "suffix")
    try:
        return check_bot_name(request.suffix)
    except UserError as error:
        raise invalid(str(error), "suffix") from None


def _hyperparameters(request: JobCreate) -> Hyperparameters:
    """What was asked for, in ``method`` or, as older clients do, beside it."""
    if request.integrations:
        raise invalid("integrations are not supported: leave them out.", "integrations")
    method = request.method
    if method is not None and method.type != "supervised":
        raise invalid(f"method {method.type} is not supported yet: use supervised.", "method.type")
    if method and method.supervised:
        return method.supervised.hyperparameters
    return request.hyperparameters or Hyperparameters()


@contextmanager
def _mistakes(param: str) -> Iterator[None]:
    try:
        yield
    except TooBigError as error:
        raise invalid(str(error), param, "does_not_fit") from None
    except UserError as error:
        raise invalid(str(error), param) from None


def base_model(name: str, settings: ControlSettings, param: str = "model") -> Base:
    """The base model called ``name``.

    Raises:
        OpenAIError: 400, there is none here; ``param`` is the request's field that named it.
    """
    if VersionName.parse(name):
        message = (
            f"{name} is an adapter, and every version is trained from the base on all rows: name the base."
        )
        raise invalid(message, param, "model_not_found")
    if models.looks_like_a_path(name):
        raise invalid(f"{param} {name!r} is a path: name a base model that was downloaded.", param)
    try:
        if settings.base_models:
            return find_base(name, settings.base_models)
        found = models.resolve(name, settings.model_cache_dir)
    except UserError as error:
        raise invalid(str(error), param, "model_not_found") from None
    return Base(name=found.name, source=name, revision=found.revision)


async def _file(control: Control, caller: Caller, file_id: str, param: str) -> File:
    async with control.database.read() as session:
        file = await files.get(session, file_id, None if caller.is_owner else caller.person_id)
    if file is None:
        raise invalid(f"No file {file_id!r}: upload it with POST /v1/files, purpose fine-tune.", param)
    if file.purpose != "fine-tune":
        raise invalid(f"{file_id} has purpose {file.purpose!r}: upload it with purpose fine-tune.", param)
    return file


def _config(
    request: JobCreate, asked: Hyperparameters, control: Control, fixed: dict[str, Any]
) -> dict[str, Any]:
    """The values of ``FinetuneConfig`` for this job, tried on that class itself."""
    recipe = _recipe(request.onggi.recipe)
    rate = recipe.get("learning_rate", FinetuneConfig.model_fields["learning_rate"].default)
    auto = {name: value for name, value in asked.model_dump().items() if value != "auto"}
    values = recipe | fixed | {"metadata": request.metadata or {}}
    if "n_epochs" in auto:
        values["epochs"] = auto["n_epochs"]
    if "batch_size" in auto:
        values["batch_size"] = auto["batch_size"]
    values["learning_rate"] = rate * auto.get("learning_rate_multiplier", 1.0)
    ours = request.onggi.model_dump(exclude_none=True, include={"rank", "max_length", "leave_out"})
    values |= ours | ({"method": "qlora"} if request.onggi.quantization else {})
    try:
        FinetuneConfig(
            **values, data="", output=Path(), mlflow_tracking_uri=control.settings.mlflow_tracking_uri
        )
    except ValidationError as error:
        raise invalid(explain(error.errors()), "onggi") from None
    return values


def _recipe(name: str | None) -> dict[str, Any]:
    if name is None:
        return {}
    try:
        recipe = load_yaml(FinetuneConfig, RECIPES / f"{name}.yaml")
    except UserError as error:
        raise invalid(str(error), "onggi.recipe") from None
    return {key: value for key, value in recipe.items() if key not in _OF_THE_JOB}
