"""PostgreSQL and MLflow made to agree: MLflow wins on which versions exist, PostgreSQL on what is served."""

import asyncio

from common import logging
from common.names import VersionName
from common.registry import RegisteredVersion, Registry, RegistryError
from services.control import reports
from services.control.context import Control
from services.database.queries import bots, served, versions

SECONDS = 30.0


async def repair(control: Control) -> None:
    """One round: add what a report missed, retire what MLflow has no more, mirror what is served as aliases.

    An installation without jobs reads another one's MLflow, and mirrors nothing there.
    MLflow away is logged and tried again in the next round; nothing else waits for it.
    """
    if control.registry is None:
        return
    try:
        # Read before the registry is: what is reported meanwhile is in neither, and not taken for removed.
        known = await _known(control)
        registered = await asyncio.to_thread(control.registry.list)
        await _add_missing(control, registered)
        await _retire_removed(control, control.registry, known, registered)
        if control.runner is not None:  # else the aliases are of the installation that trains
            await _mirror(control, control.registry)
    except RegistryError as error:
        logging.get("system").warning("registry away: versions are repaired later", reason=str(error))


async def _add_missing(control: Control, registered: list[RegisteredVersion]) -> None:
    for version in registered:
        async with control.database.session() as session:
            if await reports.copy(session, version):
                logging.get("system").info("version found in the registry", model=str(version.name))


async def _known(control: Control) -> set[VersionName]:
    async with control.database.read() as session:
        rows = await versions.all_versions(session)
    return {VersionName(row.bot, row.number) for row in rows if row.state != "retired"}


async def _retire_removed(
    control: Control, registry: Registry, known: set[VersionName], registered: list[RegisteredVersion]
) -> None:
    """Retire versions that MLflow has no more, asked for each once again, but never one that is served.

    A registry with nothing in it is more likely a new or restored MLflow than everything removed at once.
    """
    gone = known - {version.name for version in registered} if registered else set()
    for name in sorted(gone):
        if await asyncio.to_thread(registry.get, name) is None:
            retired = await _retire(control, name)
            logging.get("system").warning("version gone from the registry", model=str(name), retired=retired)


async def _retire(control: Control, name: VersionName) -> bool:
    async with control.database.session() as session:
        try:
            return await served.retire(session, name.bot, name.number)
        except LookupError:
            return True  # by somebody else, meanwhile


async def _mirror(control: Control, registry: Registry) -> None:
    async with control.database.read() as session:
        rows = await bots.all_bots(session)
    for bot in rows:
        await asyncio.to_thread(registry.mirror, bot.name, champion=bot.champion, candidate=bot.candidate)
