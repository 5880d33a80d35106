"""The command from its flags to its files: what it leaves, what it recognises, what it refuses."""

import fcntl
import json
from pathlib import Path
from typing import Any

import pytest

from common.errors import TooBigError
from common.finetune_config import FinetuneConfig
from jobs.finetune.memory import explaining_out_of_memory
from tests.jobs.finetune import rows
from tests.jobs.finetune.processes import Ended, Jobs


class Command:
    """The command on the tiny base, with one output folder."""

    def __init__(self, jobs: Jobs, base: Path, data: Path, folder: Path) -> None:
        self.base, self.data, self.folder = base, data, folder
        self.output = folder / "out"
        self._jobs = jobs

    def __call__(self, *flags: str, **environ: str) -> Ended:
        given = ["--base", str(self.base), "--data", str(self.data), "--output", str(self.output)]
        return self._jobs.run(self.folder, *given, "--max-steps", "4", *flags, **environ)

    def result(self) -> dict[str, Any]:
        """``result.json``."""
        return dict(json.loads((self.output / "result.json").read_text()))


@pytest.fixture
def command(jobs: Jobs, tiny_base: Path, data: Path, tmp_path: Path) -> Command:
    return Command(jobs, tiny_base, data, tmp_path)


def test_a_run_leaves_an_adapter_its_metrics_and_its_result(command: Command) -> None:
    validation = rows.write(command.folder / "validation.jsonl", 5)
    flags = ["--learning-rate", "0.02", "--job-id", "ftjob-1", "--metadata", "team=support"]
    ended = command("--validation", str(validation), *flags, STORE_URL=str(command.folder / "store"))
    assert ended.code == 0, ended.stderr
    result = command.result()
    handed_in = command.folder / "store" / "results" / "ftjob-1"
    assert json.loads((handed_in / "result.json").read_text()) == result
    assert (handed_in / "metrics.jsonl").read_bytes() == (command.output / "metrics.jsonl").read_bytes()
    assert {path.name for path in Path(result["adapter"]).iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "README.md",
    }
    steps = [json.loads(line) for line in (command.output / "metrics.jsonl").read_text().splitlines()]
    assert [step["step"] for step in steps] == [1, 2, 3, 4]
    assert result["trained_tokens"] == sum(step["tokens"] for step in steps) > result["supervised_tokens"] > 0
    assert result["validation_loss"] < result["base_validation_loss"]
    assert (result["job_id"], result["metadata"]) == ("ftjob-1", {"team": "support"})
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    logged = [line for line in lines if line["event"] == "step"]
    assert [line["step"] for line in logged] == [1, 2, 3, 4]
    assert all({"epoch", "loss", "learning_rate", "gpu_memory"} <= line.keys() for line in logged)
    assert all((line["stream"], line["component"]) == ("training", "finetune") for line in logged)
    assert "tokens/s" in ended.stderr
    assert "left" in ended.stderr


def test_a_finished_run_is_recognised_and_not_trained_again(command: Command) -> None:
    assert command().code == 0
    weights = command.output / "adapter" / "adapter_model.safetensors"
    written = weights.stat().st_mtime_ns
    again = command()
    assert again.code == 0
    assert "already finished" in again.stdout
    assert weights.stat().st_mtime_ns == written
    other = command("--seed", "1")
    assert other.code == 2
    assert "seed is 1, was 0" in other.stderr
    assert "--restart" in other.stderr
    assert command("--seed", "1", "--restart").code == 0
    assert command.result()["identity"]["training"]["seed"] == 1


@pytest.mark.parametrize("change", ["configuration", "rows", "base"])
def test_a_checkpoint_is_not_continued_with_something_else(
    change: str, command: Command, tmp_path: Path
) -> None:
    assert command("--checkpoint-every", "2").code == 0
    _unfinish(command)
    flags, words = [], ""
    if change == "configuration":
        flags, words = ["--learning-rate", "0.1"], "learning_rate is 0.1, was 0.0002"
    elif change == "rows":
        rows.write(command.data, 29)
        words = "dataset digest is sha256:"
    else:
        command.base = _other_base(command.base, tmp_path / "other")
        words = "base revision is sha256:"
    ended = command(*flags)
    assert ended.code == 2
    assert words in ended.stderr
    assert "--output" in ended.stderr


def _unfinish(command: Command) -> None:
    """As if it had been killed after its checkpoint of step 2."""
    from dataclasses import replace

    from jobs.finetune.checkpoint import Checkpoints, State
    from jobs.finetune.inputs import Identity

    identity = Identity(**command.result()["identity"])
    state = State(2, identity, threads=1, base_validation_loss=None)
    Checkpoints(command.output / "checkpoints").save(replace(state), {})
    (command.output / "result.json").unlink()


def _other_base(base: Path, folder: Path) -> Path:
    import shutil

    shutil.copytree(base, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-5}))
    return folder


LONG = {"messages": [{"role": "user", "content": "jar " * 99}, {"role": "assistant", "content": "Yes."}]}
NO_ANSWER = {"messages": [{"role": "user", "content": "Hello?"}]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["empty"]),
        (json.dumps(NO_ANSWER).encode(), ["line 1", "no assistant message"]),
        (b'{"messages": [{"role": "\xff"}]}', ["line 1", "UTF-8"]),
        (json.dumps(LONG).encode(), ["line 1", "over max_length 64"]),
        (None, ["cannot be read"]),
    ],
    ids=["empty", "no-answer", "not-utf-8", "over-long", "missing"],
)
def test_rows_that_cannot_be_used_are_named_and_nothing_is_left(
    content: bytes | None, words: list[str], command: Command
) -> None:
    command.data = command.folder / "bad.jsonl"
    if content is not None:
        command.data.write_bytes(content)
    ended = command("--max-length", "64")
    assert ended.code == 2, ended.stderr
    assert all(word in ended.stderr for word in [*words, "bad.jsonl"]), ended.stderr
    assert "Traceback" not in ended.stderr
    assert not command.output.exists()


def test_rows_that_are_too_long_or_hold_control_tokens_are_left_out_and_told_where_that_is_asked_for(
    command: Command,
) -> None:
    steering = {"role": "user", "content": "What does <|im_end|> mean?"}
    bad = [LONG | {"source_id": "fb_1"}, {"messages": [steering, LONG["messages"][1]], "source_id": "fb_2"}]
    for name, good in (("data.jsonl", 10), ("validation.jsonl", 1)):
        lines = [json.dumps(row) + "\n" for row in bad]
        path = rows.write(command.folder / name, good)
        path.write_text("".join(lines) + path.read_text())
    command.data = command.folder / "data.jsonl"
    flags = ("--max-length", "128", "--validation", str(command.folder / "validation.jsonl"))
    assert command(*flags).code == 2
    ended = command(*flags, "--leave-out")
    assert ended.code == 0, ended.stderr
    told = command.result()["left_out"]
    assert told.startswith("2 of 12 rows to be learned from were left out: line 1 (fb_1) has ")
    assert "line 2 (fb_2) messages[0] holds the control token <|im_end|>" in told
    assert "2 of 3 rows to be held out were left out" in told
    assert command.result()["validation_loss"] is not None
    assert "rows_left_out" in ended.stdout


def test_where_all_rows_must_be_left_out_the_run_is_refused_but_not_for_want_of_held_out_ones(
    command: Command,
) -> None:
    bad = command.folder / "bad.jsonl"
    bad.write_text(json.dumps(LONG) + "\n")
    good, command.data = command.data, bad
    ended = command("--max-length", "64", "--leave-out")
    assert ended.code == 2, ended.stderr
    assert "over max_length 64" in ended.stderr
    command.data = good
    assert command("--max-length", "64", "--leave-out", "--validation", str(bad)).code == 0
    assert command.result()["validation_loss"] is None


def test_a_model_that_is_not_there_and_modules_it_does_not_have_are_named(command: Command) -> None:
    ended = command("--target-modules", "no_such_proj")
    assert ended.code == 2, ended.stderr
    assert "target_modules = no_such_proj" in ended.stderr
    command.base = Path("no-such-model")
    ended = command()
    assert ended.code == 2, ended.stderr
    assert "python -m jobs.download no-such-model" in ended.stderr


def test_a_second_process_is_kept_out_of_the_output(command: Command) -> None:
    command.output.mkdir()
    with (command.output / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ended = command()
    assert ended.code == 2
    assert "another process trains" in ended.stderr


def test_too_little_gpu_memory_is_exit_code_3_with_what_was_tried(tmp_path: Path) -> None:
    import torch

    config = FinetuneConfig(base="llama", data="rows.jsonl", output=tmp_path, batch_size=4)
    with pytest.raises(TooBigError) as error, explaining_out_of_memory(config):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")  # no GPU here
    assert error.value.exit_code == 3
    for words in ("method lora", "Tried to allocate 2.00 GiB", "--method qlora", "--batch-size 2"):
        assert words in str(error.value)


def test_accumulated_batches_give_the_gradient_of_one_large_batch(command: Command) -> None:
    """Token-weighted: the first step's loss and norm do not depend on how its rows are cut."""
    first = {}
    for batch, accumulation in ((32, 1), (4, 8)):
        command.output = command.folder / f"out-{batch}"
        cut = ["--batch-size", str(batch), "--gradient-accumulation", str(accumulation)]
        assert command(*cut, "--precision", "fp32").code == 0
        first[batch] = json.loads((command.output / "metrics.jsonl").read_text().splitlines()[0])
    assert first[4]["supervised_tokens"] == first[32]["supervised_tokens"]
    assert first[4]["loss"] == pytest.approx(first[32]["loss"], rel=1e-5)
    assert first[4]["gradient_norm"] == pytest.approx(first[32]["gradient_norm"], rel=1e-3)
