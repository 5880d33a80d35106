import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from jobs import gpu
from jobs.gpu import Card, Machine, describe, judge

# What nvidia-smi prints with these cards; there is none where the tests run.
FAKE_GPU_ROWS = """\
0, NVIDIA GeForce RTX 5090, 32607, 1024, 580.95.05, 12.0
1, NVIDIA GeForce RTX 5060 Ti, 16311, 3, 580.95.05, 12.0
"""
FAKE_GPU_BANNER = "| NVIDIA-SMI 580.95.05      Driver Version: 580.95.05      CUDA Version: 13.0     |"

TORCH = ("2.13.0+cu130", "13.0", ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"))
CPU_ONLY = Machine(
    cards=(), driver=None, driver_cuda=None, driver_trouble=None,
    torch=TORCH[0], torch_cuda=TORCH[1], torch_targets=TORCH[2],
    bitsandbytes="0.50.2", cpu="x86_64", cores=2, memory=24105,
)  # fmt: skip


def with_card(name: str, capability: tuple[int, int], memory: int = 16311) -> Machine:
    card = Card(0, name, memory, 0, capability)
    return replace(CPU_ONLY, cards=(card,), driver="580.95.05", driver_cuda="13.0")


def verdicts(machine: Machine) -> list[tuple[bool, str | None, str]]:
    return [(verdict.works, verdict.device, verdict.sentence) for verdict in judge(machine)]


@pytest.fixture
def fake_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ``nvidia-smi`` in front of any real one; its answers are the files ``rows`` and ``banner``."""
    (tmp_path / "rows").write_text(FAKE_GPU_ROWS)
    (tmp_path / "banner").write_text(FAKE_GPU_BANNER)
    program = tmp_path / "nvidia-smi"
    program.write_text(
        f'#!/bin/sh\ncase "$1" in --query*) cat {tmp_path}/rows;; *) cat {tmp_path}/banner;; esac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return program


def test_cards_are_read_as_the_driver_says_them(fake_nvidia_smi: Path) -> None:
    cards, driver, trouble = gpu.ask_driver()
    assert cards == (
        Card(0, "NVIDIA GeForce RTX 5090", 32607, 1024, (12, 0)),
        Card(1, "NVIDIA GeForce RTX 5060 Ti", 16311, 3, (12, 0)),
    )
    assert (driver, trouble) == ("580.95.05", None)


def test_a_machine_with_cards_is_described_in_plain_lines(
    fake_nvidia_smi: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "ask_torch", lambda: TORCH)
    machine = gpu.inspect()
    lines = describe(machine, judge(machine))
    assert lines[0] == "card 0: NVIDIA GeForce RTX 5090 (Blackwell, sm_120), 32607 MiB, 31583 free"
    assert lines[2] == "driver: 580.95.05, up to CUDA 13.0"


def test_without_nvidia_smi_there_is_no_card_and_no_complaint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert gpu.ask_driver() == ((), None, None)


def test_a_driver_that_fails_is_told(fake_nvidia_smi: Path) -> None:
    fake_nvidia_smi.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed: no communication'\nexit 9\n")
    cards, _, trouble = gpu.ask_driver()
    assert (cards, trouble) == ((), "NVIDIA-SMI has failed: no communication")
    machine = replace(CPU_ONLY, driver_trouble=trouble)
    assert "no card answers (NVIDIA-SMI has failed" in judge(machine)[0].sentence
    assert describe(machine, [])[0] == f"card: none ({trouble})"


def test_a_cell_without_a_number_is_no_error(fake_nvidia_smi: Path) -> None:
    (fake_nvidia_smi.parent / "rows").write_text("0, NVIDIA GB10, [N/A], [N/A], 580.95.05, 12.1\n")
    assert gpu.ask_driver()[0] == (Card(0, "NVIDIA GB10", 0, 0, (12, 1)),)


def test_a_cpu_trains_and_serves_small_models() -> None:
    for works, device, sentence in verdicts(CPU_ONLY):
        assert (works, device) == (True, "cpu")
        assert "there is no NVIDIA card; slow, for models under 1B" in sentence


def test_a_blackwell_card_does_everything_with_this_torch() -> None:
    for works, device, sentence in verdicts(with_card("NVIDIA GeForce RTX 5090", (12, 0))):
        assert (works, device) == (True, "cuda")
        assert "NVIDIA GeForce RTX 5090 (Blackwell, sm_120)" in sentence


def test_a_torch_without_code_for_blackwell_is_named_with_the_way_out() -> None:
    old = replace(
        with_card("NVIDIA GeForce RTX 5090", (12, 0)),
        torch="2.6.0+cu124", torch_cuda="12.4", torch_targets=("sm_50", "sm_80", "sm_86", "sm_90"),
    )  # fmt: skip
    lora, qlora, serving = verdicts(old)
    assert lora == qlora
    assert lora[:2] == (False, None)
    assert lora[2].startswith(
        "torch 2.6.0+cu124 has no code for NVIDIA GeForce RTX 5090 (Blackwell, sm_120), only sm_50 sm_80 "
        "sm_86 sm_90: pip install torch --index-url https://download.pytorch.org/whl/cu1"
    )
    assert serving[0]


@pytest.mark.parametrize(
    ("capability", "targets", "runs"),
    [
        ((8, 9), ("sm_86",), True),
        ((8, 0), ("sm_86",), False),
        ((12, 1), ("sm_120",), True),
        ((12, 0), ("sm_90", "compute_90"), True),
        ((12, 0), ("sm_100", "sm_90a"), False),
        ((9, 0), ("sm_90a",), True),
    ],
)
def test_machine_code_runs_within_its_major_architecture(
    capability: tuple[int, int], targets: tuple[str, ...], runs: bool
) -> None:
    machine = replace(with_card("card", capability), torch_targets=targets)
    assert judge(machine)[0].works is runs


def test_an_old_card_and_an_old_driver_are_told_apart() -> None:
    turing = verdicts(with_card("NVIDIA T4", (7, 5)))
    assert turing[0] == (
        False,
        None,
        "NVIDIA T4 (Volta or Turing, sm_75) has no bf16, which starts with Ampere",
    )
    assert turing[2][0]
    pascal = verdicts(with_card("NVIDIA GeForce GTX 1080", (6, 1)))
    assert [works for works, _, _ in pascal] == [False, False, False]
    behind = replace(with_card("NVIDIA A100", (8, 0)), driver="535.104", driver_cuda="12.2")
    assert verdicts(behind)[0][2] == (
        "torch 2.13.0+cu130 is built for CUDA 13.0 and driver 535.104 runs 12.2: update the driver"
    )
    assert verdicts(behind)[2][2].endswith("vLLM's image needs 13: update the driver to 580 or newer")


def test_a_cpu_build_beside_a_card_and_missing_packages_are_named() -> None:
    card = with_card("NVIDIA GeForce RTX 4090", (8, 9))
    cpu_build = replace(card, torch="2.13.0+cpu", torch_cuda=None, torch_targets=())
    assert (
        "torch 2.13.0+cpu is a CPU build and there is a card: pip install torch" in verdicts(cpu_build)[0][2]
    )
    assert "bitsandbytes is not installed" in verdicts(replace(card, bitsandbytes=None))[1][2]
    assert "torch is not installed" in verdicts(replace(card, torch=None))[0][2]


def test_the_command_prints_json_that_a_program_reads(
    fake_nvidia_smi: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["jobs.gpu", "--json"])
    gpu.main()
    report = json.loads(capsys.readouterr().out)
    assert [card["memory"] for card in report["cards"]] == [32607, 16311]
    assert [verdict["works"] for verdict in report["verdicts"]] == [True, True, True]
    assert report["driver_cuda"] == "13.0"
