import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from common.finetune_config import FinetuneConfig
from common.job_config import load_yaml
from common.rows import held_out
from services.control.fine_tunes import RECIPES
from services.control.settings import ControlSettings
from tests.services.control.conftest import BASE, House, rows, serving, until

JOBS = "/v1/fine_tuning/jobs"


@pytest.fixture
async def registered(settings: ControlSettings, root: Path, mlflow: str) -> AsyncIterator[House]:
    """A control with a registry."""
    with_registry = settings.model_copy(update={"mlflow_tracking_uri": mlflow})
    async with serving(with_registry, root) as house:
        yield house


async def _upload(house: House, content: bytes, key: str | None = None) -> str:
    sdk = house.sdk(key) if key else house.sdk()
    return (await sdk.files.create(file=("rows.jsonl", content), purpose="fine-tune")).id


async def _create(house: House, **request: Any) -> Any:
    training = request.pop("training_file", None) or await _upload(house, rows(20))
    asked = {"model": BASE, "suffix": "support-bot", "training_file": training} | request
    return await house.sdk().fine_tuning.jobs.create(**asked)


async def _finished(house: House, job_id: str) -> Any:
    async def job() -> Any:
        found = await house.sdk().fine_tuning.jobs.retrieve(job_id)
        return found if found.finished_at else None

    return await until(job)


def _folder(house: House, job_id: str) -> Path:
    return house.settings.jobs_dir / job_id


async def test_a_fine_tune_by_the_openai_sdk_ends_as_a_judged_version(registered: House) -> None:
    house, sdk = registered, registered.sdk()
    made = await _create(
        house,
        suffix="sdk-bot",
        validation_file=await _upload(house, rows(4)),
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": 4}}},
        seed=7,
        metadata={"why": "a test"},
        extra_body={"onggi": {"rank": 8, "quantization": "nf4", "max_length": 256, "leave_out": True}},
    )
    assert (made.object, made.model, made.seed, made.metadata) == (
        "fine_tuning.job", BASE, 7, {"why": "a test"},
    )  # fmt: skip
    assert made.status in ("queued", "running")
    assert made.fine_tuned_model is None
    bot = await house.get("/onggi/v1/bots/sdk-bot")
    assert (bot["champion"], bot["generation"], bot["base"]) == (None, 0, BASE)

    done = await _finished(house, made.id)
    assert (done.status, done.error, done.fine_tuned_model) == ("succeeded", None, "sdk-bot@1")
    assert done.trained_tokens == 2000
    version = await house.get("/onggi/v1/versions/sdk-bot@1")
    assert (version["state"], version["sentence"]) == ("passed", "fixed 4 of 4 known mistakes")
    assert (version["job_id"], version["rank"]) == (made.id, 8)

    events = [event async for event in await sdk.fine_tuning.jobs.list_events(made.id, limit=3)]
    assert [event.message for event in events if event.type == "message"][::-1] == [
        "The job is queued.",
        "Step finetune began.",
        "1 of 2 rows to be learned from were left out: line 1 is too long.",
        "Version sdk-bot@1 is registered.",
        "Step evaluate began.",
        "The job is done.",
    ]
    assert [event.data["train_loss"] for event in events if event.type == "metrics"] == [0.5, 1.5]
    [checkpoint] = [found async for found in await sdk.fine_tuning.jobs.checkpoints.list(made.id)]
    assert (checkpoint.fine_tuned_model_checkpoint, checkpoint.step_number) == ("sdk-bot@1", 2)

    async def result_files() -> list[str]:
        return (await sdk.fine_tuning.jobs.retrieve(made.id)).result_files

    [result] = await until(result_files)
    lines = (await sdk.files.content(result)).text.splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]


async def test_what_control_writes_is_what_jobs_finetune_reads(house: House) -> None:
    made = await _create(
        house,
        hyperparameters={"learning_rate_multiplier": 0.5},
        extra_body={"onggi": {"rank": 8, "quantization": "nf4"}},
    )
    await _finished(house, made.id)
    folder = _folder(house, made.id)
    written = load_yaml(FinetuneConfig, folder / "finetune.yaml")
    assert written["learning_rate"] == FinetuneConfig.model_fields["learning_rate"].default / 2
    assert "epochs" not in written  # auto: the recipe's
    read = json.loads((folder / "output" / "config.json").read_text())
    assert (read["bot"], read["base"], read["method"], read["rank"]) == ("support-bot", BASE, "qlora", 8)
    assert (read["seed"], read["job_id"]) == (made.seed, made.id)
    assert read["store_url"] == house.settings.store_url


@pytest.mark.parametrize("recipe", [path.stem for path in RECIPES.glob("*.yaml")])
async def test_every_shipped_recipe_can_be_named_and_its_rate_multiplied(house: House, recipe: str) -> None:
    made = await _create(
        house,
        hyperparameters={"learning_rate_multiplier": 2, "n_epochs": 1},
        extra_body={"onggi": {"recipe": recipe}},
    )
    shipped = load_yaml(FinetuneConfig, RECIPES / f"{recipe}.yaml")
    written = load_yaml(FinetuneConfig, _folder(house, made.id) / "finetune.yaml")
    assert written["learning_rate"] == 2 * shipped["learning_rate"]
    assert (written["epochs"], written["batch_size"]) == (1, shipped["batch_size"])
    assert written["base"] == BASE
    assert written["data"] == str(_folder(house, made.id) / "train.jsonl")
    assert "validation" not in written


async def test_without_a_validation_file_rows_are_held_out_by_the_hash_of_their_key(house: House) -> None:
    made = await _create(house, training_file=await _upload(house, rows(40)))
    sides = [
        {json.loads(line)["key"] for line in (_folder(house, made.id) / name).read_text().splitlines()}
        for name in ("train.jsonl", "held_out.jsonl")
    ]
    keys = {f"conversation {number}" for number in range(40)}
    assert sides[1] == {key for key in keys if held_out(key)}
    assert sides[0] == keys - sides[1]
    assert sides[1]


async def test_with_a_validation_file_every_training_row_is_learned(house: House) -> None:
    training, validation = rows(20), b"\xef\xbb\xbf" + rows(3)
    made = await _create(
        house,
        training_file=await _upload(house, training),
        validation_file=await _upload(house, validation),
    )
    assert (_folder(house, made.id) / "train.jsonl").read_bytes() == training
    assert (_folder(house, made.id) / "held_out.jsonl").read_bytes() == validation
    config = load_yaml(FinetuneConfig, _folder(house, made.id) / "finetune.yaml")
    assert config["validation"] == str(_folder(house, made.id) / "held_out.jsonl")


async def test_a_job_without_held_out_rows_is_left_to_a_person(house: House) -> None:
    key = next(f"key {number}" for number in range(99) if not held_out(f"key {number}"))
    made = await _create(house, training_file=await _upload(house, rows(2, key=key)))
    assert (await _finished(house, made.id)).status == "succeeded"
    events = [event.message async for event in await house.sdk().fine_tuning.jobs.list_events(made.id)]
    assert "No row is held out, so there is nothing to judge on: a person decides." in events
    assert not (_folder(house, made.id) / "evaluate.log").exists()


@pytest.mark.parametrize(
    ("change", "param", "words"),
    [
        ({"suffix": None}, "suffix", "it names the bot"),
        ({"suffix": "Support Bot"}, "suffix", "lower-case letters"),
        ({"model": "gpt-9"}, "model", "python -m jobs.download gpt-9"),
        ({"model": "support-bot@3"}, "model", "name the base"),
        ({"model": "/etc"}, "model", "is a path"),
        ({"training_file": "file-none"}, "training_file", "POST /v1/files"),
        ({"validation_file": "file-none"}, "validation_file", "POST /v1/files"),
        ({"method": {"type": "dpo", "dpo": {}}}, "method.type", "not supported yet"),
        (
            {"method": {"type": "supervised", "supervised": {"epochs": 1}}},
            "method.supervised.epochs",
            "Extra",
        ),
        ({"integrations": [{"type": "wandb"}]}, "integrations", "not supported"),
        ({"metadata": {str(number): "x" for number in range(17)}}, "metadata", "at most 16"),
        ({"metadata": {"k" * 65: "x"}}, None, "64"),
        ({"hyperparameters": {"n_epochs": "many"}}, None, "auto"),
        ({"onggi": {"rank": 1000}}, "onggi", "max_serving_rank"),
        ({"onggi": {"recipe": "none-such"}}, "onggi.recipe", "none-such"),
        ({"onggi": {"recipe": "../../secret"}}, "onggi.recipe", "pattern"),
        ({"onggi": {"flags": 1}}, "onggi.flags", "Extra"),
        ({"temperature": 1}, "temperature", "Extra"),
    ],
)
async def test_a_request_that_cannot_work_is_a_400_that_names_the_field(
    house: House, change: dict[str, Any], param: str | None, words: str
) -> None:
    asked = {"model": BASE, "suffix": "support-bot", "training_file": await _upload(house, rows(9))}
    status, error = await house.refusal("POST", JOBS, json=asked | change)
    assert status == 400
    assert words in error["message"]
    if param:
        assert error["param"] == param
    assert (await house.get(JOBS))["data"] == []
    assert list(house.settings.jobs_dir.glob("*/*")) == []


async def test_bad_rows_are_named_by_line_and_reason(house: House) -> None:
    bad = rows(2) + b'{"messages":[{"role":"user","content":"alone"}]}\nnot json\n'
    file_id = await _upload(house, bad)
    with pytest.raises(openai.BadRequestError) as error:
        await _create(house, training_file=file_id)
    assert error.value.param == "training_file"
    assert f"{file_id} (rows.jsonl) cannot be used: 2 lines to mend" in error.value.message
    assert "line 3: " in error.value.message
    assert "line 4: is not JSON" in error.value.message


async def test_preference_rows_are_refused_for_supervised_learning(house: House) -> None:
    answer = [{"role": "assistant", "content": "yes"}]
    row = {
        "input": {"messages": [{"role": "user", "content": "?"}]},
        "preferred_output": answer,
        "non_preferred_output": [{"role": "assistant", "content": "no"}],
    }
    with pytest.raises(openai.BadRequestError, match="preference rows"):
        await _create(house, training_file=await _upload(house, json.dumps(row).encode()))


async def test_jobs_are_listed_the_newest_first_in_pages_and_by_metadata(house: House) -> None:
    file_id = await _upload(house, rows(20))
    ids = [
        (await _create(house, training_file=file_id, metadata={"n": str(number)})).id for number in range(3)
    ]
    sdk = house.sdk()
    assert [job.id async for job in await sdk.fine_tuning.jobs.list(limit=2)] == ids[::-1]
    assert [job.id async for job in await sdk.fine_tuning.jobs.list(metadata={"n": "1"})] == [ids[1]]


async def test_a_cancelled_job_has_no_process_left_and_the_next_one_starts(house: House) -> None:
    first = await _create(house, metadata={"behave": "wait"})
    second = await _create(house)
    sdk = house.sdk()

    async def running() -> Any:
        found = await sdk.fine_tuning.jobs.retrieve(first.id)
        return found if found.status == "running" and found.estimated_finish else None

    await until(running)
    assert (await sdk.fine_tuning.jobs.retrieve(second.id)).status == "queued"
    cancelled = await sdk.fine_tuning.jobs.cancel(first.id)
    assert (cancelled.status, cancelled.fine_tuned_model) == ("cancelled", None)
    assert (await _finished(house, second.id)).status == "succeeded"
    assert (await sdk.fine_tuning.jobs.cancel(second.id)).status == "succeeded"  # it has ended already


async def test_a_member_sees_and_cancels_their_own_jobs_only(house: House) -> None:
    made = await _create(house, metadata={"behave": "wait"})
    _, key = await house.member()
    for method, path in (("GET", ""), ("POST", "/cancel"), ("GET", "/events"), ("GET", "/checkpoints")):
        status, _ = await house.refusal(method, f"{JOBS}/{made.id}{path}", key=key)
        assert status == 404
    assert (await house.get(JOBS, key=key))["data"] == []
    file_id = await _upload(house, rows(9))
    request = {"model": BASE, "suffix": "support-bot", "training_file": file_id}
    status, error = await house.refusal("POST", JOBS, json=request, key=key)
    assert (status, error["param"]) == (400, "training_file")  # the owner's file is not theirs to train on


async def test_an_installation_without_a_registry_says_what_to_set(
    settings: ControlSettings, root: Path
) -> None:
    async with serving(settings.model_copy(update={"mlflow_tracking_uri": ""}), root) as house:
        status, error = await house.refusal("GET", JOBS)
        assert (status, error["code"]) == (503, "no_runner")
        assert "MLFLOW_TRACKING_URI" in error["message"]


async def test_a_restarted_control_finds_its_running_job(settings: ControlSettings, root: Path) -> None:
    async with serving(settings, root) as house:
        made = await _create(house, metadata={"behave": "wait"})
        status = _folder(house, made.id) / "status.json"
        await until(lambda: json.loads(status.read_text())["step"] == "finetune")
    before = json.loads(status.read_text())["supervisor"]
    async with serving(settings, root) as house:
        assert (await house.get(f"{JOBS}/{made.id}"))["status"] == "running"
        assert json.loads(status.read_text())["supervisor"] == before
        assert (await house.sdk().fine_tuning.jobs.cancel(made.id)).status == "cancelled"
