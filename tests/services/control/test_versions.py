import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from common.names import VersionName
from common.registry import Registry, VersionTags
from services.control import repair
from services.control.settings import ControlSettings
from services.database.queries import versions
from tests.services.control.conftest import JOB_TOKEN, House, serving

TAGS = VersionTags(
    base="SmolLM2", revision="sha256:1", method="lora", rank=16, sha256="sha256:2", job_id="job"
)
VERDICT = {"state": "passed", "sentence": "fixed 14 of 17", "figures": {"fixed": 14}, "note": "# Note"}


@pytest.fixture
async def registered(settings: ControlSettings, root: Path, mlflow: str) -> AsyncIterator[House]:
    with_registry = settings.model_copy(update={"mlflow_tracking_uri": mlflow})
    async with serving(with_registry, root) as house:
        yield house


@pytest.fixture
def registry(mlflow: str) -> Registry:
    return Registry(mlflow)


@pytest.fixture
def bot() -> str:
    """A name that no other test has used in the shared registry."""
    return f"bot-{uuid.uuid4().hex[:8]}"


def _register(registry: Registry, bot: str) -> VersionName:
    name = registry.create_version(bot, TAGS)
    registry.complete(name, f"file:///store/{name.folder}")
    return name


async def test_a_report_copies_the_version_from_the_registry_and_makes_its_bot(
    registered: House, registry: Registry, bot: str
) -> None:
    name = _register(registry, bot)
    shown = await registered.post(f"/onggi/v1/versions/{name}/report", {}, key=JOB_TOKEN)
    assert (shown["name"], shown["state"], shown["rank"], shown["job_id"]) == (
        str(name),
        "ungated",
        16,
        "job",
    )
    assert (await registered.get(f"/onggi/v1/bots/{bot}"))["champion"] is None
    again = await registered.post(f"/onggi/v1/versions/{name}/report", {}, key=JOB_TOKEN)
    assert again == shown
    assert [row["name"] for row in (await registered.get(f"/onggi/v1/versions?bot={bot}"))["data"]] == [
        str(name)
    ]


async def test_a_verdict_is_written_even_when_the_report_was_lost(
    registered: House, registry: Registry, bot: str
) -> None:
    name = _register(registry, bot)
    shown = await registered.post(f"/onggi/v1/versions/{name}/verdict", VERDICT, key=JOB_TOKEN)
    assert (shown["state"], shown["sentence"], shown["figures"]["fixed"], shown["note"]) == (
        "passed", "fixed 14 of 17", 14, "# Note",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("said", "state"), [("refused", "refused"), ("not judged", "ungated"), ("insufficient data", "ungated")]
)
async def test_only_passed_and_refused_decide_and_the_rest_is_a_persons(
    registered: House, registry: Registry, bot: str, said: str, state: str
) -> None:
    name = _register(registry, bot)
    body = VERDICT | {"state": said}
    assert (await registered.post(f"/onggi/v1/versions/{name}/verdict", body, key=JOB_TOKEN))[
        "state"
    ] == state


async def test_reports_are_for_jobs_and_only_of_what_the_registry_has_finished(
    registered: House, registry: Registry, bot: str
) -> None:
    unfinished = registry.create_version(bot, TAGS)
    for name, status in ((str(unfinished), 404), (f"{bot}@99", 404), ("no-name", 404)):
        got, _ = await registered.refusal("POST", f"/onggi/v1/versions/{name}/report", json={}, key=JOB_TOKEN)
        assert got == status
    for path, body in (("report", {}), ("verdict", VERDICT)):
        got, error = await registered.refusal("POST", f"/onggi/v1/versions/{unfinished}/{path}", json=body)
        assert got == 401  # an owner's key is not a job's token
        assert "CONTROL_TOKEN" in error["message"]


async def test_a_round_of_repair_adds_what_was_missed_and_mirrors_what_is_served(
    registered: House, registry: Registry, bot: str
) -> None:
    first, second = _register(registry, bot), _register(registry, bot)
    await repair.repair(registered.control)
    for name in (first, second):
        assert (await registered.get(f"/onggi/v1/versions/{name}"))["state"] == "ungated"
    promotion = {"version": 1, "generation": 0, "force": True, "reason": "r"}
    await registered.post(f"/onggi/v1/bots/{bot}/promote", promotion)
    trial = {"version": 2, "generation": 1, "force": True, "reason": "r"}
    await registered.post(f"/onggi/v1/bots/{bot}/candidate", trial)
    await repair.repair(registered.control)
    assert registry.aliases(bot) == {"champion": 1, "candidate": 2}
    await registered.post(f"/onggi/v1/bots/{bot}/rollback", {"generation": 2})
    await repair.repair(registered.control)
    assert registry.aliases(bot) == {}


async def test_without_jobs_the_registry_is_anothers_and_is_only_read(
    registered: House, registry: Registry, bot: str
) -> None:
    version = _register(registry, bot)
    registry.mirror(bot, champion=1, candidate=None)
    await repair.repair(replace(registered.control, runner=None))
    assert (await registered.get(f"/onggi/v1/versions/{version}"))["state"] == "ungated"
    assert registry.aliases(bot) == {"champion": 1}, "what that installation serves, not this one"


async def test_repair_retires_what_the_registry_has_no_more_but_nothing_that_is_served(
    registered: House, registry: Registry, bot: str
) -> None:
    served, gone = _register(registry, bot), _register(registry, bot)
    await repair.repair(registered.control)
    promotion = {"version": 1, "generation": 0, "force": True, "reason": "r"}
    await registered.post(f"/onggi/v1/bots/{bot}/promote", promotion)
    _register(registry, f"{bot}-x")  # the registry is not empty
    registry.delete(served)
    registry.delete(gone)
    await repair.repair(registered.control)
    assert (await registered.get(f"/onggi/v1/versions/{served}"))["state"] == "ungated"
    assert (await registered.get(f"/onggi/v1/versions/{gone}"))["state"] == "retired"
    status, error = await registered.refusal(
        "POST", f"/onggi/v1/versions/{gone}/verdict", json=VERDICT, key=JOB_TOKEN
    )
    assert status == 400
    assert "is retired" in error["message"]


async def test_the_database_wins_on_state(registered: House, registry: Registry, bot: str) -> None:
    name = _register(registry, bot)
    await registered.post(f"/onggi/v1/versions/{name}/verdict", VERDICT, key=JOB_TOKEN)
    await repair.repair(registered.control)
    assert (await registered.get(f"/onggi/v1/versions/{name}"))["state"] == "passed"


async def test_with_the_registry_away_reports_are_503_and_everything_else_goes_on(house: House) -> None:
    status, _ = await house.refusal("POST", "/onggi/v1/versions/support-bot@1/report", json={}, key=JOB_TOKEN)
    assert status == 503
    await repair.repair(house.control)  # logged, not raised
    assert (await house.get("/onggi/v1/versions"))["data"] == []
    async with house.database.read() as session:
        assert await versions.all_versions(session) == []
