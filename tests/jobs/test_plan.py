"""``python -m jobs.plan`` as a person and a script meet it, and the same plan inside ``jobs.finetune``."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from common.errors import TooBigError
from common.finetune_config import FinetuneConfig
from jobs import plan
from jobs.finetune import memory
from jobs.finetune.job import finetune
from jobs.finetune.world import World
from tests.demo import ROOT
from tests.jobs.finetune import rows

LLAMA = ["--model", "Llama-3.1-8B-Instruct"]
SMALL = ["--card", "rtx5060ti-16gb"]


def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> tuple[int, str]:
    """Exit code and output of the job in this process."""
    monkeypatch.setattr(sys, "argv", ["jobs.plan", *arguments])
    with pytest.raises(SystemExit) as ended:
        plan.errors.run(plan.main)
    out, err = capsys.readouterr()
    return int(str(ended.value.code or 0)), out + err


def test_the_command_of_the_docstring_says_no_and_what_would_fit() -> None:
    arguments = [*LLAMA, *["--method", "qlora", "--length", "2048", "--batch", "4"], *SMALL]
    ended = subprocess.run(
        [sys.executable, "-m", "jobs.plan", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 3, ended.stderr
    assert ended.stderr == ""
    assert "QLoRA of Llama-3.1-8B-Instruct, rank 16, batch 4 x 2048 tokens" in ended.stdout
    assert re.search(r"base weights +│ +5\.3 ", ended.stdout)
    last = ended.stdout.splitlines()[-1]
    assert last.startswith(
        "It does not fit rtx5060ti-16gb (15.9 GiB): 52.8 GiB are missing. Would fit (flags of "
    )
    assert last.endswith(
        "jobs.finetune): --max-length 1152 --batch-size 1 --gradient-accumulation 4; or a card with 80 GB."
    )


def test_what_fits_says_what_is_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*LLAMA, "--method", "qlora", "--batch", "1", *SMALL]
    code, output = run(capsys, monkeypatch, *arguments)
    assert code == 0
    assert "It fits rtx5060ti-16gb (15.9 GiB) with 1.0 GiB to spare." in output


def test_a_script_reads_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, output = run(capsys, monkeypatch, *LLAMA, "--batch", "2", "--card", "32607", "--json")
    found: dict[str, Any] = json.loads(output)
    assert code == 3
    assert found["fits"] is False
    assert found["total_bytes"] == sum(found["parts"].values()) > found["memory_bytes"] == 32607 << 20
    assert found["ways"][0] == "--batch-size 1 --gradient-accumulation 2"


def test_serving_prints_flags_that_vllm_takes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, output = run(capsys, monkeypatch, *LLAMA, "--serving", "--card", "rtx5090", "--adapters", "5")
    assert code == 0
    assert re.search(
        r"^vLLM: --max-model-len \d+ --max-num-seqs 32 --max-num-batched-tokens 2048 --max-loras 5 "
        r"--max-lora-rank 64 --max-cpu-loras 16 --gpu-memory-utilization 0\.97\d$",
        output,
        re.MULTILINE,
    )


def test_serving_that_cannot_fit_names_fewer_bits(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, output = run(capsys, monkeypatch, *LLAMA, "--serving", *SMALL)
    assert code == 3
    assert "Would fit: --precision fp8; or a card with 24 GB." in output
    assert "vLLM:" not in output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model", "nothing", *SMALL], "the planner does not know the shape of nothing: fetch it with"),
        ([*LLAMA, "--card", "rtx1"], "--card rtx1 is not known: use one of rtx5060ti-8gb, rtx5060ti-16gb"),
        ([*LLAMA, "--precision", "awq", *SMALL], "precision awq cannot be trained: use bf16, fp32"),
        ([*LLAMA, "--serving", "--precision", "fp32", *SMALL], "fp32 cannot be served: use bf16, fp8, awq"),
        ([*LLAMA, "--target-modules", "q", *SMALL], "target_modules: Llama-3.1-8B-Instruct has no q in"),
    ],
)
def test_a_wrong_value_is_a_sentence(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    sentence: str,
) -> None:
    code, output = run(capsys, monkeypatch, *arguments)
    assert code == 2
    assert sentence in output


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="this machine has a card")
def test_without_a_card_one_must_be_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, output = run(capsys, monkeypatch, *LLAMA)
    assert code == 2
    assert "there is no card here: give --card, one of rtx5060ti-8gb" in output


@pytest.fixture
def config(base_model: Path, tmp_path: Path) -> FinetuneConfig:
    """A run of SmolLM2 on short rows."""
    data = rows.write(tmp_path / "rows.jsonl", 12)
    return FinetuneConfig(base=str(base_model), data=str(data), output=tmp_path / "out", batch_size=4)


def test_a_fine_tune_that_does_not_fit_its_card_ends_before_it_loads_anything(
    config: FinetuneConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretended = 1 << 30  # a card of 1 GiB, for there is none here
    monkeypatch.setattr(memory, "card_memory", lambda: pretended)
    with pytest.raises(
        TooBigError, match=r"LoRA of SmolLM2-135M-Instruct.* this card has 1\.0 GiB\. Would fit"
    ):
        finetune(config, World())
    assert not (config.output / "adapter").exists()


def test_a_fine_tune_is_planned_with_its_own_rows(config: FinetuneConfig) -> None:
    from common.chat import Example
    from common.models import BaseModel

    lengths = [5, 9, 30, 12, 7]
    examples = [Example(list(range(n)), [False] * (n - 3) + [True] * 3) for n in lengths]
    planned = memory.training_of(config, BaseModel(Path(config.base), "smol", "r"), examples)
    assert (planned.batch, planned.length, planned.supervised) == (4, 30, 12)
    assert planned.shape.name == "smol"
    shared = memory.training_of(config, BaseModel(Path(config.base), "smol", "r"), examples, world_size=2)
    assert (shared.batch, shared.supervised) == (2, 6), "processes that train together share a batch"


def test_an_architecture_that_the_planner_does_not_know_is_trained_all_the_same(
    config: FinetuneConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from common.chat import Example
    from common.models import BaseModel

    (tmp_path / "config.json").write_text('{"model_type": "phi3"}')
    monkeypatch.setattr(memory, "card_memory", lambda: 1)
    memory.check_fits(config, BaseModel(tmp_path, "phi", "r"), [Example([1, 2], [False, True])])
    assert "the memory is not planned: phi is of type phi3" in caplog.text
