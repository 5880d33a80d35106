"""``jobs.promote`` against a real control: one look begins a trial, another decides it, and only once."""

import asyncio
import json
import os
import random
import subprocess
import sys
import threading
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from common.control_client import ControlClient
from common.errors import AwayError, UserError
from jobs.promote import __main__ as promote
from jobs.promote.config import PromoteConfig
from services.control.settings import ROOT
from services.database.queries import versions
from services.database.tables import now
from tests.ports import free_port
from tests.services.control.conftest import JOB_TOKEN, House
from tests.services.control.test_trials import BOT, answer, both, house_with_versions, opinion, write


def client(house: House) -> ControlClient:
    return ControlClient(str(house.http.base_url), JOB_TOKEN)


def config(house: House, **values: Any) -> PromoteConfig:
    return PromoteConfig(control_url=str(house.http.base_url), control_token=SecretStr(JOB_TOKEN), **values)


async def look(house: House, control: ControlClient | None = None, **values: Any) -> str:
    """One look at the bot, as the job has it."""
    return await asyncio.to_thread(
        promote.look, control or client(house), "support-bot", config(house, **values)
    )


async def champion_and_untried(house: House) -> str:
    """Version 1 is served, 2 has passed; the owner's id."""
    owner = await house_with_versions(house, 1, 2)
    await house.post(f"{BOT}/promote", {"version": 1, "generation": 0})
    return owner


async def rate(house: House, person: str, *better: bool) -> None:
    """Two conversations for each: the candidate was liked and the champion not, or the other way round."""
    for number, won in enumerate(better):
        for version, liked in ((2, won), (1, not won)):
            said = answer(person, f"{number} {version}", version)
            at = now() + timedelta(milliseconds=number)
            await write(house, said, opinion(said, 1 if liked else -1, created_at=at))


async def change(house: House, number: int, **values: Any) -> None:
    """Make version ``number`` what the gate or an erasure would."""
    async with house.database.session() as session:
        version = await versions.get(session, "support-bot", number)
        assert version is not None
        for column, value in values.items():
            setattr(version, column, value)


async def opens_after_two_answers_in_shadow(house: House, owner: str) -> None:
    for key in "ab":
        shown = answer(owner, key, 1)
        await write(house, shown, answer(owner, key, 2, arm="shadow", shadow_of=shown.id))
    assert "opens 50% of the conversations to support-bot@2" in await look(house, shadow=2)
    bot = await house.get(BOT)
    assert (bot["candidate"], bot["share"], bot["shadow"]) == (2, 0.5, False)


async def actions(house: House) -> list[tuple[str, str]]:
    """What was decided and by whom, the newest first."""
    made = (await house.get(f"{BOT}/decisions"))["data"]
    return [(decision["action"], decision["author"]) for decision in made]


class AtOnce(ControlClient):
    """Sees the evidence together with another of its kind, so that both decide on the same generation."""

    seen = threading.Barrier(2)

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        answer = super().get(path, **query)
        if path.endswith("/evidence"):
            self.seen.wait(10)
        return answer


@both
async def test_of_two_at_once_one_promotes_and_the_other_is_told(house: House) -> None:
    owner = await champion_and_untried(house)
    assert "tries support-bot@2 beside support-bot@1" in await look(house)
    await rate(house, owner, *[True] * 9)
    url = str(house.http.base_url)
    said = await asyncio.gather(*(look(house, AtOnce(url, JOB_TOKEN)) for _ in range(2)))
    assert sorted(said) == [
        "promotes support-bot@2: 9 of 9 comparisons for it over support-bot@1",
        "promotes support-bot@2: 9 of 9 comparisons for it over support-bot@1 "
        "(decided already, as generation 3)",
    ]
    bot = await house.get(BOT)
    assert (bot["champion"], bot["previous"], bot["candidate"], bot["generation"]) == (2, 1, None, 3)
    assert await actions(house) == [
        ("promote", "jobs.promote"),
        ("candidate", "jobs.promote"),
        ("promote", "ada"),
        ("create", "onggi"),
    ]
    [decision, *_] = (await house.get(f"{BOT}/decisions"))["data"]
    assert (decision["figures"]["approval_for"], decision["figures"]["candidate_liked"]) == (9, 9)


@both
async def test_a_person_who_decides_meanwhile_comes_first(house: House) -> None:
    owner = await champion_and_untried(house)
    await look(house)
    await rate(house, owner, *[True] * 9)
    loop = asyncio.get_running_loop()

    class Overtaken(ControlClient):
        def get(self, path: str, **query: Any) -> dict[str, Any]:
            answer = super().get(path, **query)
            if path.endswith("/evidence"):
                ending = house.post(f"{BOT}/candidate", {"version": None, "generation": 2, "reason": "rude"})
                asyncio.run_coroutine_threadsafe(ending, loop).result(10)
            return answer

    said = await look(house, Overtaken(str(house.http.base_url), JOB_TOKEN))
    assert said.endswith("not done, another decision came first, generation 3 (candidate by ada: rude)")
    assert (await house.get(BOT))["champion"] == 1
    assert "no version to try" in await look(house)  # what a person ended is not begun again


async def test_harm_ends_the_trial_and_the_version_is_not_tried_again(house: House) -> None:
    owner = await champion_and_untried(house)
    await look(house)
    await rate(house, owner, *[False] * 5)
    assert "ends the trial of support-bot@2: people like it less" in await look(house)
    bot = await house.get(BOT)
    assert (bot["champion"], bot["candidate"]) == (1, None)
    assert "no version to try" in await look(house)


async def test_a_pinned_bot_is_left_as_it_is(house: House) -> None:
    await champion_and_untried(house)
    await house.post(f"{BOT}/pin", {"generation": 1})
    assert await look(house) == "is pinned: only a person changes what is served"


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("promote", {"version": 2, "force": True, "reason": "I say so"}),
        ("candidate", {"version": 2, "force": True, "reason": "I say so"}),
        ("pin", {}),
        ("unpin", {}),
    ],
)
async def test_a_job_neither_overrules_the_gate_nor_settles_anything(
    house: House, path: str, asked: dict[str, Any]
) -> None:
    await champion_and_untried(house)
    status, error = await house.refusal(
        "POST", f"{BOT}/{path}", key=JOB_TOKEN, json={"generation": 1, **asked}
    )
    assert (status, (await house.get(BOT))["generation"]) == (403, 1)
    assert "Only an owner pins" in error["message"]


async def test_a_dry_run_says_it_and_does_nothing(house: House) -> None:
    await champion_and_untried(house)
    assert "tries support-bot@2" in await look(house, dry_run=True)
    assert (await house.get(BOT))["candidate"] is None


async def test_shadow_first_and_then_a_share(house: House) -> None:
    owner = await champion_and_untried(house)
    assert "in shadow" in await look(house, shadow=2)
    await opens_after_two_answers_in_shadow(house, owner)


@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=pytest.mark.soak)])
async def test_killed_at_any_moment_it_decides_the_same_and_once(house: House, kills: int) -> None:
    owner = await champion_and_untried(house)
    await look(house)
    await rate(house, owner, *[True] * 9)
    rng = random.Random(5)
    for _ in range(kills):
        job = start(house)
        await asyncio.sleep(rng.uniform(0.3, 1.2))
        job.kill()
        job.wait()
    job = start(house)
    output, _ = await asyncio.to_thread(job.communicate, timeout=60)
    assert job.returncode == 0, output
    assert output.startswith("support-bot: ")
    bot = await house.get(BOT)
    assert (bot["champion"], bot["generation"]) == (2, 3)
    assert [made for made in await actions(house) if made[1] == "jobs.promote"] == [
        ("promote", "jobs.promote"),
        ("candidate", "jobs.promote"),
    ]


async def forced_trial(house: House, **asked: Any) -> str:
    """Version 1 is served, and an owner tries 2, which the gate did not pass; the owner's id."""
    owner = await champion_and_untried(house)
    await change(house, 2, state="ungated")
    by_force = {"version": 2, "generation": 1, "share": 0.5, "force": True, "reason": "too few cases"}
    await house.post(f"{BOT}/candidate", by_force | asked)
    return owner


@both
async def test_what_was_forced_and_is_liked_better_is_put_to_a_person_once(house: House) -> None:
    owner = await forced_trial(house)
    await rate(house, owner, *[True] * 9)
    assert "asks a person: people like support-bot@2 better" in await look(house)
    assert "waits: support-bot@2 has 9 of 9" in await look(house)
    assert [action for action, _ in await actions(house)][:2] == ["inconclusive", "candidate"]
    [asked, *_] = (await house.get(f"{BOT}/decisions"))["data"]
    body = asked["reason"].partition("/promote ")[2].partition(", or end")[0]
    bot = await house.post(f"{BOT}/promote", json.loads(body))
    assert (bot["champion"], bot["candidate"]) == (2, None)


async def test_what_was_forced_does_not_succeed_an_erased_champion_by_itself(house: House) -> None:
    await forced_trial(house)
    await change(house, 1, erased_at=now())
    assert "asks a person: support-bot@1 learned from words" in await look(house)
    assert "waits: " in await look(house)
    assert (await house.get(BOT))["champion"] == 1


async def test_a_job_goes_on_with_what_a_person_forced_and_with_nothing_else(house: House) -> None:
    owner = await forced_trial(house, shadow=True)
    await house_with_versions(house, 3)
    await change(house, 3, state="refused")
    said = {"generation": 2, "reason": "no harm"}
    for asked in ({"version": 3, "share": 0.5}, {"version": 2, "share": 1.0}):
        status, error = await house.refusal("POST", f"{BOT}/candidate", key=JOB_TOKEN, json=said | asked)
        assert (status, error["code"]) == (400, "not_passed")
    await opens_after_two_answers_in_shadow(house, owner)


async def test_a_job_does_not_open_what_the_gate_refuses_since_a_job_began_it(house: House) -> None:
    await champion_and_untried(house)
    await look(house, shadow=2)
    await change(house, 2, state="refused")
    asked = {"version": 2, "share": 0.5, "generation": 2, "reason": "no harm"}
    status, error = await house.refusal("POST", f"{BOT}/candidate", key=JOB_TOKEN, json=asked)
    assert (status, error["code"]) == (400, "not_passed")


async def test_a_refusal_about_one_bot_keeps_no_other_from_being_looked_at(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    await champion_and_untried(house)
    bots = ["no-such-bot", "support-bot"]
    with pytest.raises(UserError, match="no-such-bot could not be looked at") as refused:
        await asyncio.to_thread(promote.look_at_all, client(house), bots, config(house))
    assert refused.value.exit_code == 2
    assert (await house.get(BOT))["candidate"] == 2
    printed = capsys.readouterr()
    assert "support-bot: tries support-bot@2" in printed.out
    assert "no-such-bot: control at" in printed.err


def start(house: House) -> subprocess.Popen[str]:
    """The job as its CronJob starts it."""
    told = {"CONTROL_URL": str(house.http.base_url), "CONTROL_TOKEN": JOB_TOKEN}
    return subprocess.Popen(
        [sys.executable, "-m", "jobs.promote"],
        cwd=ROOT,
        env={**os.environ, **told},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def test_control_away_is_worth_a_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.control_client.PAUSES", ())
    monkeypatch.setattr("common.logging.configure", lambda *_, **__: None)
    monkeypatch.setattr(sys, "argv", ["promote", "--control-url", f"http://127.0.0.1:{free_port()}"])
    with pytest.raises(AwayError) as away:
        promote.main()
    assert away.value.exit_code == 1
