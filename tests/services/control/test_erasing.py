"""A person's words go from wherever they lie, what learned from them is known, and no restore undoes it."""

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import delete, select

from common.registry import Registry
from common.storage import open_store
from services.control import erasing
from services.control.datasets import file_key
from services.control.settings import ROOT
from services.database import tombstones
from services.database.tables import (
    Bot,
    Comparison,
    Completion,
    Dataset,
    Feedback,
    File,
    Retrain,
    Tombstone,
    Version,
    now,
)
from tests.rows import completion, correction, stored
from tests.services.control.conftest import BASE, House, rows

WORDS = "My cat is called Pickle."
BOT = "support-bot"
LEARNED, JUDGED, OTHERS = ("sha256:learned", "sha256:judged", "sha256:others")


def answer(id_: str, person_id: str, **changes: Any) -> Completion:
    """An answer to a person's words that repeats them."""
    words = {
        "messages": [{"role": "user", "content": WORDS}],
        "answer": stored(WORDS),
        "request": {"user": WORDS},
        "completion_tokens": 3,
    }
    return completion(id_, person_id, **words | changes)


class Team:
    """Ben, who is to be erased, and Cleo, who stays; what they said, and what was made of it."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.store = open_store(house.settings.store_url)

    async def fill(self) -> None:
        self.ben, self.bens_key = await self.house.member("Ben")
        self.cleo, self.cleos_key = await self.house.member("Cleo")
        async with self.house.database.session() as session:
            session.add(Bot(name=BOT, person_id=self.ben, base=BASE, champion=1))
            await session.flush()
            for name, person in (("b1", self.ben), ("b2", self.ben), ("c1", self.cleo)):
                session.add(answer(name, person))
            await session.flush()
            session.add_all(
                [
                    correction("fb_ben", self.ben, "b1", WORDS),
                    correction("fb_about_ben", self.cleo, "b1", WORDS),
                    correction("fb_cleo", self.cleo, "c1", WORDS),
                    Comparison(id="cmp_ben", person_id=self.ben, bot=BOT, conversation_key="talk",
                               first_id="b1", second_id="b2", choice="first"),
                ]
            )  # fmt: skip
            self._datasets(session)

    def _datasets(self, session: Any) -> None:
        bens, cleos = ("fb_ben", self.ben), ("fb_cleo", self.cleo)
        for number, digest, sources in (
            (1, LEARNED, [(*bens, False), (*cleos, False)]),
            (2, JUDGED, [(*bens, True), (*cleos, False)]),
            (3, OTHERS, [(*cleos, False)]),
        ):
            files = [self._file(session, f"file-{number}-{kind}") for kind in ("train", "held_out")]
            told = [
                {"kind": "feedback", "id": id_, "person_id": who, "conversation_key": "k", "held_out": held}
                for id_, who, held in sources
            ]
            session.add(
                Dataset(digest=digest, bot=BOT, person_id=self.cleo, training_file=files[0],
                        validation_file=files[1], sources=told, figures={})
            )  # fmt: skip
            session.add(
                Version(bot=BOT, number=number, person_id=self.cleo, base=BASE, revision="r", rank=8,
                        sha256="s", state="passed", dataset_digest=digest, sentence="Fixed 1 of 2.",
                        note=WORDS)
            )  # fmt: skip

    def _file(self, session: Any, file_id: str) -> str:
        session.add(
            File(id=file_id, person_id=self.cleo, filename="f", purpose="fine-tune", bytes=1, sha256="s")
        )
        self.store.put_bytes(WORDS.encode(), file_key(file_id))
        return file_id

    async def versions(self) -> dict[int, Version]:
        async with self.house.database.read() as session:
            return {row.number: row for row in await session.scalars(select(Version))}

    async def ids(self, table: Any) -> set[str]:
        async with self.house.database.read() as session:
            return set(await session.scalars(select(table.id)))

    async def texts(self) -> str:
        """Everything that the database holds of completions, feedback, comparisons and versions."""
        async with self.house.database.read() as session:
            found = [
                {column.key: getattr(row, column.key) for column in table.__table__.columns}
                for table in (Completion, Feedback, Comparison, Version, Dataset, Tombstone, File)
                for row in await session.scalars(select(table))
            ]
        return json.dumps(found, default=str)


@pytest.fixture
async def team(house: House) -> Team:
    made = Team(house)
    await made.fill()
    return made


async def erase(team: Team, path: str, **rest: Any) -> Any:
    answer = await team.house.ask("DELETE", path, **rest)
    assert answer.is_success, answer.text
    return answer.json()


@pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
async def test_a_persons_words_go_and_what_learned_from_them_is_listed(team: Team) -> None:
    told = await erase(team, f"/onggi/v1/people/{team.ben}/words")
    assert (told["completions"], told["feedback"], told["comparisons"]) == (2, 2, 1)
    assert (told["datasets"], told["versions"]) == ([JUDGED, LEARNED], ["support-bot@1"])
    assert told["waiting"] == []
    assert await team.ids(Feedback) == {"fb_cleo"}
    assert not await team.ids(Comparison)
    versions = await team.versions()
    assert [versions[n].erased_at is not None for n in (1, 2, 3)] == [True, False, False]
    assert [WORDS in str(versions[n].note) for n in (1, 2, 3)] == [False, False, True]
    assert set(team.store.list("files")) == {file_key("file-3-train"), file_key("file-3-held_out")}
    async with team.house.database.read() as session:
        ben, cleo = await session.get(Completion, "b1"), await session.get(Completion, "c1")
    assert ben is not None
    assert cleo is not None
    assert (ben.stored, ben.messages, ben.answer, ben.request, ben.completion_tokens) == (
        False,
        None,
        None,
        None,
        3,
    )
    assert cleo.answer is not None
    [row] = tombstones.kept(team.store)
    assert (row["kind"], row["subject"], row["author"]) == ("person", team.ben, "ada")
    again = await erase(team, f"/onggi/v1/people/{team.ben}/words")
    assert (again["completions"], again["feedback"], again["versions"]) == (0, 0, ["support-bot@1"])


async def test_words_do_not_stay_in_the_free_pages_of_a_sqlite_file(team: Team) -> None:
    for person in (team.ben, team.cleo):
        await erase(team, f"/onggi/v1/people/{person}/words")
    async with team.house.database.session() as session:
        for version in await session.scalars(select(Version)):
            version.note = None
    async with team.house.database.engine.connect() as connection:
        await connection.exec_driver_sql("COMMIT")
        await connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    assert WORDS.encode() not in _on_disk(Path(str(team.house.database.url.database)))


async def test_a_conversation_goes_and_the_rest_stays(team: Team) -> None:
    async with team.house.database.session() as session:
        session.add(answer("b3", team.ben, conversation_key="other"))
    told = await erase(team, "/onggi/v1/conversations/talk", key=team.bens_key)
    assert (told["completions"], told["feedback"], told["versions"]) == (2, 2, ["support-bot@1"])
    async with team.house.database.read() as session:
        stored = set(await session.scalars(select(Completion.id).where(Completion.stored)))
    assert stored == {"b3", "c1"}  # Cleo's part of a conversation of that name is hers
    assert (await erase(team, "/onggi/v1/conversations/talk"))["completions"] == 1  # an owner's reach
    assert (await team.house.refusal("DELETE", "/onggi/v1/conversations/nothing"))[0] == 404


async def test_only_an_owner_or_the_person_erases(team: Team) -> None:
    path = f"/onggi/v1/people/{team.ben}/words"
    assert (await team.house.refusal("DELETE", path, key=team.cleos_key))[0] == 403
    assert (await team.house.refusal("DELETE", "/onggi/v1/people/nobody/words"))[0] == 404
    assert (await erase(team, "/onggi/v1/people/me/words", key=team.bens_key))["completions"] == 2


async def test_what_was_on_its_way_is_erased_when_it_arrives(team: Team) -> None:
    before = now()
    await erase(team, f"/onggi/v1/people/{team.ben}/words")
    late = {"digest": "sha256:late", "bot": BOT, "person_id": team.cleo}
    async with team.house.database.session() as session:
        session.add(answer("late", team.ben, created_at=before))
        session.add(answer("later", team.ben))
        team._file(session, "file-late")
        source = {"kind": "feedback", "id": "fb_ben", "person_id": team.ben, "conversation_key": "k"}
        session.add(
            Dataset(training_file="file-late", validation_file="file-late", figures={},
                    sources=[source | {"held_out": False}], **late)
        )  # fmt: skip
    assert await erasing.settle(team.house.control) == []
    async with team.house.database.read() as session:
        stored = set(await session.scalars(select(Completion.id).where(Completion.stored)))
        file = await session.get(File, "file-late")
    assert stored == {"c1", "later"}  # what a person says afterwards is said anew
    assert file is not None
    assert file.deleted_at is not None
    assert file_key("file-late") not in team.store.list("files")


async def test_a_retrain_whose_dataset_lost_a_source_is_claimed_anew(team: Team) -> None:
    async with team.house.database.session() as session:
        session.add(Retrain(id="claimed", bot=BOT, dataset_digest=JUDGED, author="cron"))
        session.add(Retrain(id="started", bot=BOT, dataset_digest=LEARNED, author="cron", state="started"))
        session.add(Retrain(id="other", bot=BOT, dataset_digest=OTHERS, author="cron"))
    await erase(team, f"/onggi/v1/people/{team.ben}/words")
    assert await team.ids(Retrain) == {"started", "other"}


async def test_rows_that_are_uploaded_after_an_erasure_go_too(team: Team) -> None:
    async with team.house.database.session() as session:
        session.add(
            Dataset(digest="sha256:late", bot=BOT, person_id=team.cleo, training_file="file-late",
                    validation_file="file-late", figures={},
                    sources=[{"kind": "feedback", "id": "fb_ben", "person_id": team.ben,
                              "conversation_key": "k", "held_out": False}])
        )  # fmt: skip
    await erase(team, f"/onggi/v1/people/{team.ben}/words")
    team.store.put_bytes(WORDS.encode(), file_key("file-late"))
    assert await erasing.settle(team.house.control) == []
    assert file_key("file-late") not in team.store.list("files")
    async with team.house.database.session() as session:
        team._file(session, "file-late")
    assert await erasing.settle(team.house.control) == []
    assert file_key("file-late") not in team.store.list("files")


def copy(source: Path, target: Path) -> None:
    """A database's content over another's."""
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)


async def test_a_restored_backup_is_erased_again_before_it_serves(team: Team, tmp_path: Path) -> None:
    database, backup = Path(str(team.house.database.url.database)), tmp_path / "backup.db"
    # In threads: control, which runs in this one, may hold the lock that they wait for.
    await asyncio.to_thread(copy, database, backup)
    await erase(team, f"/onggi/v1/people/{team.ben}/words")
    await asyncio.to_thread(copy, backup, database)
    assert await team.ids(Feedback) >= {"fb_ben"}
    assert not await team.ids(Tombstone)
    environ = {"DATABASE_URL": f"sqlite+aiosqlite:///{database}", "STORE_URL": team.house.settings.store_url}
    command = [sys.executable, "-m", "services.database", "replay-tombstones"]
    ran = await asyncio.to_thread(
        subprocess.run, command, env={**os.environ, **environ}, cwd=ROOT, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert await team.ids(Feedback) == {"fb_cleo"}
    assert len(await team.ids(Tombstone)) == 1
    assert (await team.versions())[1].erased_at is not None


async def test_a_store_that_is_away_at_the_start_is_read_later(team: Team) -> None:
    control = team.house.control
    row = Tombstone(id="tomb_1", kind="person", subject=team.ben, author="ada", created_at=now())
    tombstones.keep(team.store, row)
    control.erased.clear()
    away = replace(control, settings=control.settings.model_copy(update={"store_url": "/dev/null/store"}))
    await erasing.begin(away)
    assert not await team.ids(Tombstone)
    await erasing.keep_settling(control)
    assert await team.ids(Feedback) == {"fb_cleo"}


async def test_a_fine_tune_on_erased_words_ends_and_keeps_none(team: Team) -> None:
    """An upload by hand is its uploader's words, whoever is quoted in it."""
    house = team.house
    upload = {"file": ("mine.jsonl", rows(20))}
    answer = await house.ask(
        "POST", "/v1/files", files=upload, data={"purpose": "fine-tune"}, key=team.bens_key
    )
    request = {"model": BASE, "training_file": answer.json()["id"], "suffix": BOT}
    job = await house.post("/v1/fine_tuning/jobs", request, key=team.bens_key)
    folder = house.settings.jobs_dir / job["id"]
    assert (folder / "train.jsonl").exists()
    async with house.database.session() as session:
        session.add(
            Version(bot=BOT, number=4, person_id=team.ben, base=BASE, revision="r", rank=8, sha256="s",
                    job_id=job["id"], dataset_digest="sha256:mine")
        )  # fmt: skip
    told = await erase(team, f"/onggi/v1/people/{team.ben}/words")
    assert told["uploads"] == 1
    assert "support-bot@4" in told["versions"]
    shown = await house.get(f"/v1/fine_tuning/jobs/{job['id']}")
    assert shown["status"] in ("cancelled", "succeeded")  # the stand-in may be that fast
    left = {path.name for path in folder.rglob("*") if path.is_file()}
    assert left <= {"spec.json", "status.json", "events.jsonl", "finetune.yaml", "metrics.jsonl"}


async def test_a_store_that_is_away_is_told_and_done_later(team: Team) -> None:
    store = team.house.settings.store_url
    away = f"{store}-away"
    os.rename(store, away)
    os.mkfifo(store)  # no folder
    told = await erase(team, f"/onggi/v1/people/{team.ben}/words")
    assert "store" in told["waiting"][0]
    assert told["feedback"] == 2
    os.unlink(store)
    os.rename(away, store)
    assert await erasing.settle(team.house.control) == []
    assert set(team.store.list("files")) == {file_key("file-3-train"), file_key("file-3-held_out")}


async def test_an_erased_version_is_retired_once_its_successor_serves(team: Team) -> None:
    team.store.put_bytes(b"{}", "adapters/support-bot/1/manifest.json")
    await erase(team, f"/onggi/v1/people/{team.ben}/words")
    assert (await team.versions())[1].state == "passed"  # somebody has to answer until then
    promotion = {"version": 3, "generation": 0}
    await team.house.post(f"/onggi/v1/bots/{BOT}/promote", promotion)
    await erasing.keep_settling(team.house.control)
    assert {number: row.state for number, row in (await team.versions()).items()} == {
        1: "retired",
        2: "passed",
        3: "passed",
    }
    assert not team.store.list("adapters")


async def test_the_answers_side_by_side_go_from_mlflow(team: Team, mlflow: str) -> None:
    api = f"{mlflow}/api/2.0"
    async with httpx.AsyncClient(timeout=60) as client:
        made = await client.post(f"{api}/mlflow/runs/create", json={"experiment_id": "0"})
        info = made.json()["run"]["info"]
        path = info["artifact_uri"].removeprefix("mlflow-artifacts:/")
        table = f"{api}/mlflow-artifacts/artifacts/{path}/evaluation/answers.json"
        assert (await client.put(table, content=WORDS.encode())).is_success
        async with team.house.database.session() as session:
            version = await session.get(Version, (BOT, 1))
            assert version is not None
            version.run_id = info["run_id"]
        control = replace(team.house.control, registry=Registry(mlflow))
        async with control.database.session() as session:
            await session.execute(delete(Feedback).where(Feedback.id == "fb_ben"))
            session.add(Tombstone(id="tomb_1", kind="person", subject=team.ben, author="ada"))
        assert await erasing.settle(control) == []
        assert (await client.get(table)).status_code >= 400
        assert await erasing.settle(control) == []


def _on_disk(database: Path) -> bytes:
    return database.read_bytes() + database.with_name(f"{database.name}-wal").read_bytes()
