"""/onggi/v1/versions: every adapter, where it came from and what the gate says; and what jobs report."""

from typing import Any

from fastapi import APIRouter

from common.verdict import Verdict
from services.control import reports
from services.control.dependencies import CallerDep, ControlDep, JobToken, ReaderDep, ReadSession
from services.control.shapes.base import Page
from services.control.shapes.bots import VersionPublic
from services.database.queries import versions

router = APIRouter(prefix="/onggi/v1/versions", tags=["versions"])


@router.get("", response_model=Page[VersionPublic])
async def list_versions(session: ReadSession, _: CallerDep, bot: str | None = None) -> Any:
    """Every version, or one bot's."""
    return {"data": await versions.all_versions(session, bot)}


@router.get("/{name}", response_model=VersionPublic)
async def get_version(name: str, session: ReadSession, _: ReaderDep) -> Any:
    """One version, such as `support-bot@7`."""
    return await reports.find(session, reports.parse_name(name))


@router.post("/{name}/report", response_model=VersionPublic, dependencies=[JobToken])
async def report_version(name: str, control: ControlDep) -> Any:
    """A job has registered this version."""
    version = reports.parse_name(name)
    await reports.report(control, version)
    async with control.database.read() as session:
        return await reports.find(session, version)


@router.post("/{name}/verdict", response_model=VersionPublic, dependencies=[JobToken])
async def report_verdict(name: str, verdict: Verdict, control: ControlDep) -> Any:
    """A job has judged this version."""
    return await reports.judge(control, reports.parse_name(name), verdict)
