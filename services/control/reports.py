"""Versions: what jobs report, and the copy of MLflow's registry that the gateway reads."""

import asyncio

from sqlalchemy.ext.asyncio import AsyncSession

from common import logging
from common.names import VersionName
from common.openai_errors import OpenAIError, invalid, not_found, unavailable
from common.registry import RegisteredVersion, RegistryError
from common.verdict import Verdict
from services.control.context import Control
from services.database import credentials
from services.database.queries import bots, versions
from services.database.tables import Version, VersionState

# Where the gate does not decide, the state stays: a person does.
_STATES: dict[str, VersionState] = {"passed": "passed", "refused": "refused"}


def parse_name(text: str) -> VersionName:
    """``support-bot@7``.

    Raises:
        OpenAIError: 404, it is no version's name.
    """
    name = VersionName.parse(text)
    if name is None:
        raise not_found(f"{text!r} is no version's name, such as support-bot@7.", "version")
    return name


async def find(session: AsyncSession, name: VersionName) -> Version:
    """A version that control knows.

    Raises:
        OpenAIError: 404.
    """
    version = await versions.get(session, name.bot, name.number)
    if version is None:
        raise not_found(f"No version {name}: see GET /onggi/v1/versions.", "version")
    return version


async def report(control: Control, name: VersionName) -> None:
    """A job says that ``name`` is registered: copy it from MLflow, which is asked and believed.

    Raises:
        OpenAIError: 404, MLflow does not know it or it is unfinished; 503, MLflow is away.
    """
    if control.registry is None:
        raise OpenAIError(503, "This installation has no registry: set MLFLOW_TRACKING_URI.")
    try:
        registered = await asyncio.to_thread(control.registry.get, name)
    except RegistryError as error:
        raise unavailable(str(error)) from None
    if registered is None or registered.files is None:
        raise not_found(f"MLflow knows no finished version {name}: register it first.", "version")
    async with control.database.session() as session:
        await copy(session, registered)


async def judge(control: Control, name: VersionName, verdict: Verdict) -> Version:
    """Write what the evaluation says of ``name``, which is copied from MLflow first if control missed it.

    Raises:
        OpenAIError: 400, it is retired; 404; 503, MLflow is away.
    """
    async with control.database.read() as session:
        known = await versions.get(session, name.bot, name.number)
    if known is None:
        await report(control, name)
    async with control.database.session() as session:
        state = _STATES.get(verdict.state, "ungated")
        figures = dict(verdict.figures)
        written = await versions.set_verdict(
            session,
            name.bot,
            name.number,
            state,
            figures=figures,
            sentence=verdict.sentence,
            note=verdict.note,
        )
        if not written:
            raise invalid(f"{name} is retired: there is nothing to judge.", "version")
        version = await find(session, name)
    logging.get("system").info("verdict", model=str(name), state=verdict.state, sentence=verdict.sentence)
    return version


async def copy(session: AsyncSession, registered: RegisteredVersion) -> bool:
    """Write a registered version and, if need be, its bot; whether it is new here.

    It belongs to whom its bot belongs to; what no fine-tune of ours made belongs to the first owner.
    """
    owner = await credentials.first_owner(session)
    assert owner is not None, "control makes an owner before it serves"
    name, tags = registered.name, registered.tags
    await bots.ensure(session, name.bot, owner.person_id, tags.base, tags.revision)
    bot = await bots.get(session, name.bot)
    person_id = bot.person_id if bot else owner.person_id
    return await versions.upsert(session, name.bot, name.number, person_id, tags.model_dump())
