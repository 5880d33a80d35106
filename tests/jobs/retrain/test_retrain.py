"""From reviewed words to one fine-tune, through a real control."""

import asyncio
import json
import shutil
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from common.control_client import ControlClient
from common.errors import UserError
from jobs.prepare.folder import TRAIN
from jobs.retrain import __main__ as command
from jobs.retrain.config import RetrainConfig
from jobs.retrain.retraining import Outcome, retrain
from services.control.job_folder import HELD_OUT, JobFolder
from services.control.settings import ROOT, ControlSettings
from services.database.tables import Feedback
from tests.jobs.retrain.conftest import BOT, correct, end, playing, runner
from tests.services.control.conftest import BASE, JOB_TOKEN, House, until

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
ENOUGH = RetrainConfig(minimum=10)
both_databases = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)


async def run(control: ControlClient, config: RetrainConfig = ENOUGH, now: datetime = NOON) -> Outcome:
    return await asyncio.to_thread(retrain, control, BOT, config, now)


async def say(house: House, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        await correct(house, number)


async def jobs(house: House) -> list[dict[str, Any]]:
    return list((await house.get("/v1/fine_tuning/jobs"))["data"])


async def test_what_people_corrected_becomes_a_fine_tune_of_the_base_on_all_of_it(
    house: House, control: ControlClient
) -> None:
    await say(house, 12)
    outcome = await run(control)
    assert outcome.state == "started", outcome
    (job,) = await jobs(house)
    assert (job["id"], job["suffix"], job["model"]) == (outcome.job_id, BOT, BASE)
    folder = runner(house).folder / job["id"]
    assert "leave_out: true" in (folder / "finetune.yaml").read_text(), "one long chat stops no retrain"
    train = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    held = [json.loads(line) for line in (folder / "held_out.jsonl").read_text().splitlines()]
    assert len(train) + len(held) == 12
    assert held[0]["onggi"] == {"kind": "correction", "rejected": "Never."}
    (claimed,) = (await house.get("/onggi/v1/retrains"))["data"]
    assert (claimed["state"], claimed["job_id"]) == ("started", job["id"])
    assert job["metadata"] == {
        "retrain": claimed["id"],
        "dataset": claimed["dataset_digest"],
        "author": "jobs.retrain",
    }
    names = {file["filename"].rpartition("-")[2] for file in (await house.get("/v1/files"))["data"]}
    assert names == {"train.jsonl", "heldout.jsonl", "preferences.jsonl"}
    assert "under way" in (await run(control)).sentence


async def test_nothing_begins_below_the_minimum_nor_for_words_that_were_learned_from(
    house: House, control: ControlClient
) -> None:
    await say(house, 9)
    assert (await run(control)).sentence == "9 of 10 corrections until the next retrain"
    await correct(house, 9)
    first = await run(control)
    assert first.state == "started"
    end(house, str(first.job_id), "succeeded")
    assert (await run(control)).sentence == "0 of 10 corrections until the next retrain"
    forced = RetrainConfig(minimum=10, force=True)
    assert "Nothing was said since" in (await run(control, forced)).sentence
    shutil.rmtree(runner(house).folder / str(first.job_id))  # its record is gone, what it made is not
    assert "Nothing was said since" in (await run(control, forced)).sentence
    await say(house, 10, start=10)
    second = await run(control)
    assert (second.state, len(await jobs(house))) == ("started", 1)


async def test_whoever_was_held_out_or_learned_from_stays_there_when_others_ask_the_same(
    house: House, control: ControlClient
) -> None:
    await say(house, 12)
    first = await run(control)
    before = {name: _keys(house, first, name) for name in (TRAIN, HELD_OUT)}
    end(house, str(first.job_id), "succeeded")
    for copy in ("again", "once more", "and again"):
        for number in range(12):
            await correct(house, number, copy)
    second = await run(control)
    assert second.state == "started", second
    for name, keys in before.items():
        now = _keys(house, second, name)
        assert now == keys | {f"{key} {copy}" for key in keys for copy in ("again", "once more", "and again")}


def _keys(house: House, outcome: Outcome, name: str) -> set[str]:
    lines = (runner(house).folder / str(outcome.job_id) / name).read_text().splitlines()
    return {json.loads(line)["key"] for line in lines}


@both_databases
async def test_schedulers_that_run_at_once_start_one_fine_tune(house: House, control: ControlClient) -> None:
    await say(house, 12)
    outcomes = await asyncio.gather(*(run(control) for _ in range(4)))
    (job,) = await jobs(house)
    assert {outcome.job_id for outcome in outcomes if outcome.state == "started"} == {job["id"]}
    assert len((await house.get("/onggi/v1/retrains"))["data"]) == 1
    assert len((await house.get("/v1/files"))["data"]) == 3


class Killed(BaseException):
    """The process is gone."""


class Dying(ControlClient):
    """Control as a process sees it that is killed when its ``last`` request was answered."""

    def __init__(self, house: House, last: int) -> None:
        super().__init__(str(house.http.base_url), JOB_TOKEN)
        self._left = last

    def _ask(self, *given: Any, **sent: Any) -> dict[str, Any]:
        self._left -= 1
        answer = super()._ask(*given, **sent)
        if self._left == 0:
            raise Killed
        return answer


async def test_one_that_was_killed_at_any_request_is_gone_on_with_and_leaves_nothing_twice(
    house: House, control: ControlClient
) -> None:
    await say(house, 12)
    last = 0
    while not await jobs(house):
        last += 1
        with pytest.raises(Killed):
            await asyncio.to_thread(retrain, Dying(house, last), BOT, ENOUGH, NOON)
    assert (
        last == 10
    )  # progress, examples, sides, claim, dataset, three files, claim, fine-tune; then it tells
    end(house, (await jobs(house))[0]["id"], "succeeded")
    assert (await run(control)).sentence == "0 of 10 corrections until the next retrain"
    await run(control, RetrainConfig(minimum=10, force=True))
    (job,) = await jobs(house)
    (claimed,) = (await house.get("/onggi/v1/retrains"))["data"]
    assert (claimed["state"], claimed["job_id"]) == ("started", job["id"])
    assert len((await house.get("/v1/files"))["data"]) == 3


async def test_what_control_refuses_is_said_and_not_asked_for_again(
    house: House, control: ControlClient
) -> None:
    await say(house, 12)
    config = RetrainConfig(minimum=10, recipe="nothing-like-it")
    outcome = await run(control, config)
    assert outcome.state == "refused"
    assert "nothing-like-it" in outcome.sentence
    told = (await run(control)).sentence
    assert "was refused: " in told
    assert "nothing-like-it" in told
    assert told in (await house.get(f"/onggi/v1/bots/{BOT}/progress"))["sentence"]
    assert (await run(control, RetrainConfig(force=True))).state == "started"


async def test_quiet_hours_and_the_months_budget_hold_what_is_due(
    house: House, control: ControlClient
) -> None:
    await say(house, 12)
    nights = RetrainConfig(minimum=10, quiet_hours="22:00-06:00", timezone="Asia/Seoul", dry_run=True)
    assert "quiet hours" in (await run(control, nights)).sentence  # 21:00 in Seoul
    assert (await run(control, nights, NOON.replace(hour=13))).state == "would start"
    assert (await run(control, nights, NOON.replace(hour=21))).state == "waits"
    first = await run(control)
    now = datetime.now(UTC).timestamp()
    JobFolder(runner(house).folder / str(first.job_id)).update(
        state="succeeded", started_at=now - 7200, finished_at=now
    )
    await say(house, 12, start=12)
    spent = await run(control, RetrainConfig(minimum=10, gpu_hours=0.001))
    assert "GPU-hours" in spent.sentence
    assert (await run(control, RetrainConfig(minimum=10, gpu_hours=1e6, dry_run=True))).state == "would start"


async def test_a_dry_run_says_what_it_would_do_and_leaves_nothing(
    house: House, control: ControlClient
) -> None:
    await say(house, 12)
    outcome = await run(control, RetrainConfig(minimum=10, dry_run=True))
    assert outcome.state == "would start"
    assert "12 corrections" in outcome.sentence
    assert await jobs(house) == []
    assert (await house.get("/v1/files"))["data"] == []
    assert (await house.get("/onggi/v1/retrains"))["data"] == []


async def test_an_erasure_makes_a_retrain_due_whatever_the_minimum(
    house: House, control: ControlClient
) -> None:
    from services.database.tables import Version, now

    await say(house, 12)
    first = await run(control)
    end(house, str(first.job_id), "succeeded")
    async with house.database.session() as session:
        owner = (await house.get("/onggi/v1/people/me"))["id"]
        common = {"person_id": owner, "base": BASE, "revision": "sha256:1", "rank": 8, "sha256": "ab"}
        session.add(Version(bot=BOT, number=1, state="passed", erased_at=now(), **common))
        source = (await house.get("/onggi/v1/examples", params={"bot": BOT}))["data"]
        learned = next(row for row in source if f"{row['messages']}" in _trained(house, first))
        await session.delete(await session.get(Feedback, learned["id"]))
    second = await run(control)
    assert (second.state, len(await jobs(house))) == ("started", 2)
    assert learned["correction"] not in _trained(house, second)


def _trained(house: House, outcome: Outcome) -> str:
    lines = (runner(house).folder / str(outcome.job_id) / TRAIN).read_text().splitlines()
    rows = [json.loads(line)["messages"] for line in lines]
    return f"{[row[:-1] for row in rows]} {[row[-1] for row in rows]}"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"quiet_hours": "at night"}, "no span of time"), ({"timezone": "Seoul/Asia"}, "no time zone")],
)
def test_wrong_settings_are_sentences(wrong: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RetrainConfig(**wrong)


async def test_an_owner_begins_one_by_a_request_and_the_command_does_it(
    settings: ControlSettings, mlflow_url: str
) -> None:
    """The real command in a process of its own, as control starts it, with a real MLflow."""
    settings = settings.model_copy(update={"mlflow_tracking_uri": mlflow_url})
    async with playing(settings, ROOT) as house:
        await say(house, 12)
        path = f"/onggi/v1/bots/{BOT}/retrain"
        _, key = await house.member()
        assert (await house.ask("POST", path, key=key)).status_code == 403
        assert (await house.ask("POST", "/onggi/v1/bots/nobody/retrain")).status_code == 404
        begun = await house.post(path, {"force": True})
        assert begun["object"] == "retrain.run"

        async def claimed() -> Any:
            rows = (await house.get("/onggi/v1/retrains"))["data"]
            return rows and rows[0]["state"] == "started" and rows[0]

        made = await until(claimed, 120)
        assert made["author"] == "ada"
        (job,) = await jobs(house)
        assert job["id"] == made["job_id"]
        log = runner(house).folder / "retrains" / f"{begun['id']}.log"
        await until(lambda: f"{BOT}: started: fine-tune {job['id']}" in log.read_text())
        recorded = await house.get(f"/onggi/v1/datasets/{made['dataset_digest']}", params={"bot": BOT})
        assert recorded["figures"]["corrections"] == 12


async def test_one_bots_mistake_keeps_no_other_from_its_retrain(
    house: House,
    control: ControlClient,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    await house.post("/onggi/v1/bots", {"name": "a-bot", "base": BASE})

    def half(control: ControlClient, bot: str, config: RetrainConfig, now: datetime) -> Outcome:
        if bot == "a-bot":
            raise UserError("MLflow refuses it")
        return retrain(control, bot, config, now)

    monkeypatch.setattr(command, "retrain", half)
    monkeypatch.setenv("CONTROL_URL", str(house.http.base_url))
    monkeypatch.setenv("CONTROL_TOKEN", JOB_TOKEN)
    monkeypatch.setattr(sys, "argv", ["retrain"])
    with pytest.raises(UserError, match="a-bot could not be looked at"):
        await asyncio.to_thread(command.main)
    told = capsys.readouterr()
    assert "a-bot: MLflow refuses it" in told.err
    assert f"{BOT}: waits: 0 of 60 corrections until the next retrain" in told.out
