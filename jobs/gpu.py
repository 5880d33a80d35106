"""What this machine can train and serve: cards, driver, torch's build, and a plain verdict per method.

    python -m jobs.gpu [--json]

Sizes are the planner's matter; here it is only whether a method works at all, on what, and what to change.
"""

import json
import os
import platform
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from common import errors
from common.job_config import JobConfig, parse

QUERY = "index,name,memory.total,memory.used,driver_version,compute_cap"
BF16_FROM = (8, 0)  # Ampere
NF4_FROM = (6, 0)  # https://huggingface.co/docs/bitsandbytes/installation
SERVING_FROM = (7, 5)  # https://docs.vllm.ai/en/latest/getting_started/installation/gpu.html
SERVING_CUDA = 13  # vLLM 0.20 and later
ARCHITECTURES = {7: "Volta or Turing", 8: "Ampere or Ada", 9: "Hopper", 10: "Blackwell", 12: "Blackwell"}
GENERATION_BUILD = "pip install torch --index-url https://download.pytorch.org/whl/cu130"


class GpuConfig(JobConfig):
    """Say what this machine can train and serve."""

    model_config = SettingsConfigDict(env_prefix="GPU_")

    json_output: bool = Field(False, alias="json", description="print one JSON object")


@dataclass(frozen=True)
class Card:
    """One card as the driver sees it; memory in MiB."""

    index: int
    name: str
    memory: int
    memory_used: int
    capability: tuple[int, int]

    @property
    def label(self) -> str:
        """``NVIDIA GeForce RTX 5090 (Blackwell, sm_120)``."""
        major, minor = self.capability
        return f"{self.name} ({ARCHITECTURES.get(major, 'architecture')}, sm_{major}{minor})"


@dataclass(frozen=True)
class Machine:
    """Everything the verdicts follow from; None is absent."""

    cards: tuple[Card, ...]
    driver: str | None
    driver_cuda: str | None
    """The newest CUDA that the driver runs."""
    driver_trouble: str | None
    torch: str | None
    torch_cuda: str | None
    """The CUDA that torch is built for; None for a CPU build."""
    torch_targets: tuple[str, ...]
    """What torch holds machine code (sm_*) or portable code (compute_*) for."""
    bitsandbytes: str | None
    cpu: str
    cores: int
    memory: int


@dataclass(frozen=True)
class Verdict:
    """Whether a method works here, on which device, and why or why not."""

    method: str
    works: bool
    device: str | None
    sentence: str


def main() -> None:
    """Print what was found and the verdicts, as text or JSON."""
    config = parse(GpuConfig, sys.argv[1:], prog="python -m jobs.gpu")
    machine = inspect()
    verdicts = judge(machine)
    if config.json_output:
        print(json.dumps(asdict(machine) | {"verdicts": [asdict(verdict) for verdict in verdicts]}, indent=2))
    else:
        print("\n".join(describe(machine, verdicts)))


def inspect() -> Machine:
    """Ask the driver, torch and the operating system."""
    cards, driver, trouble = ask_driver()
    torch, torch_cuda, targets = ask_torch()
    return Machine(
        cards=cards,
        driver=driver,
        driver_cuda=_driver_cuda() if cards else None,
        driver_trouble=trouble,
        torch=torch,
        torch_cuda=torch_cuda,
        torch_targets=targets,
        bitsandbytes=_version("bitsandbytes"),
        cpu=platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
    )


def ask_driver() -> tuple[tuple[Card, ...], str | None, str | None]:
    """The cards and the driver's version through nvidia-smi, and what is wrong with it, if anything is."""
    try:
        asked = _nvidia_smi(f"--query-gpu={QUERY}", "--format=csv,noheader,nounits")
    except FileNotFoundError:
        return (), None, None
    except subprocess.TimeoutExpired:
        return (), None, "nvidia-smi does not answer: the driver hangs"
    if asked.returncode:
        return (), None, (asked.stdout + asked.stderr).strip().replace("\n", " ")
    rows = [[cell.strip() for cell in line.split(",")] for line in asked.stdout.splitlines() if line.strip()]
    return tuple(_card(row) for row in rows), rows[0][4] if rows else None, None


def ask_torch() -> tuple[str | None, str | None, tuple[str, ...]]:
    """torch's version, the CUDA it is built for, and the architectures it holds code for."""
    try:
        import torch
    except ImportError:
        return None, None, ()
    flags = torch._C._cuda_getArchFlags() if torch.version.cuda else None  # get_arch_list needs a card
    return str(torch.__version__), torch.version.cuda, tuple((flags or "").split())


def judge(machine: Machine) -> list[Verdict]:
    """The verdicts on LoRA in bf16, QLoRA in NF4 and serving."""
    return [_lora(machine), _qlora(machine), _serving(machine)]


def describe(machine: Machine, verdicts: list[Verdict]) -> list[str]:
    """What a person reads."""
    lines = [
        f"card {card.index}: {card.label}, {card.memory} MiB, {card.memory - card.memory_used} free"
        for card in machine.cards
    ] or [f"card: none ({machine.driver_trouble or 'nvidia-smi is not here'})"]
    if machine.driver:
        lines.append(f"driver: {machine.driver}, up to CUDA {machine.driver_cuda or 'unknown'}")
    built = f"for CUDA {machine.torch_cuda}" if machine.torch_cuda else "for the CPU"
    lines.append(f"torch: {machine.torch}, built {built}" if machine.torch else "torch: not installed")
    lines.append(f"bitsandbytes: {machine.bitsandbytes or 'not installed'}")
    lines.append(f"CPU: {machine.cores} cores ({machine.cpu}), {machine.memory} MiB")
    lines += [f"{v.method}: {'yes' if v.works else 'no'}, {v.sentence}" for v in verdicts]
    return lines


def _nvidia_smi(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["nvidia-smi", *arguments], capture_output=True, text=True, timeout=20, check=False)


def _card(row: list[str]) -> Card:
    major, _, minor = row[5].partition(".")
    capability = (int(major), int(minor)) if major.isdigit() and minor.isdigit() else (0, 0)
    return Card(int(row[0]), row[1], _number(row[2]), _number(row[3]), capability)


def _number(text: str) -> int:
    """MiB; 0 for ``[N/A]``, as cards with unified memory say."""
    return int(text) if text.isdigit() else 0


def _driver_cuda() -> str | None:
    """The banner names it: ``CUDA Version: 13.0``."""
    found = re.search(r"CUDA (?:\w+ )?Version\s*:\s*([\d.]+)", _nvidia_smi().stdout)
    return found[1] if found else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _lora(machine: Machine) -> Verdict:
    method = "LoRA in bf16"
    if machine.torch is None:
        return Verdict(method, False, None, "torch is not installed: install the environment of jobs")
    if not machine.cards:
        return Verdict(method, True, "cpu", f"on the CPU: {_no_card(machine)}; slow, for models under 1B")
    if trouble := _torch_trouble(machine):
        return Verdict(method, False, None, trouble)
    if not (able := [card for card in machine.cards if card.capability >= BF16_FROM]):
        return Verdict(method, False, None, f"{machine.cards[0].label} has no bf16, which starts with Ampere")
    return Verdict(method, True, "cuda", f"on {_names(able)}")


def _qlora(machine: Machine) -> Verdict:
    method = "QLoRA in NF4"
    lora = _lora(machine)
    if not lora.works:
        return Verdict(method, False, None, lora.sentence)
    if machine.bitsandbytes is None:
        return Verdict(method, False, None, "bitsandbytes is not installed: install the environment of jobs")
    able = [card for card in machine.cards if card.capability >= max(NF4_FROM, BF16_FROM)]
    return Verdict(method, True, lora.device, f"on {_names(able)}" if able else lora.sentence)


def _serving(machine: Machine) -> Verdict:
    method = "serving with vLLM"
    if not machine.cards:
        sentence = f"with vLLM for CPU: {_no_card(machine)}; slow, for models under 1B"
        return Verdict(method, True, "cpu", sentence)
    if not (able := [card for card in machine.cards if card.capability >= SERVING_FROM]):
        return Verdict(method, False, None, f"{machine.cards[0].label} is older than vLLM supports (sm_75)")
    if machine.driver_cuda and _major(machine.driver_cuda) < SERVING_CUDA:
        sentence = (
            f"driver {machine.driver} runs CUDA {machine.driver_cuda}, vLLM's image needs {SERVING_CUDA}"
        )
        return Verdict(method, False, None, f"{sentence}: update the driver to 580 or newer")
    return Verdict(method, True, "cuda", f"with the vllm/vllm-openai image on {_names(able)}")


def _no_card(machine: Machine) -> str:
    return (
        f"no card answers ({machine.driver_trouble})" if machine.driver_trouble else "there is no NVIDIA card"
    )


def _torch_trouble(machine: Machine) -> str | None:
    """Why this torch cannot use these cards; None when it can use one."""
    if machine.torch_cuda is None:
        return f"torch {machine.torch} is a CPU build and there is a card: {GENERATION_BUILD}"
    if machine.driver_cuda and _major(machine.driver_cuda) < _major(machine.torch_cuda):
        return (
            f"torch {machine.torch} is built for CUDA {machine.torch_cuda} and driver {machine.driver} runs "
            f"{machine.driver_cuda}: update the driver"
        )
    if any(_runs_on(card, machine.torch_targets) for card in machine.cards):
        return None
    targets = " ".join(machine.torch_targets)
    return (
        f"torch {machine.torch} has no code for {machine.cards[0].label}, only {targets}: {GENERATION_BUILD}"
    )


def _runs_on(card: Card, targets: tuple[str, ...]) -> bool:
    """Machine code runs on its own major architecture from its minor on, portable code on all later ones.

    https://docs.nvidia.com/cuda/cuda-c-programming-guide/#application-compatibility
    """
    for target in targets:
        kind, _, number = target.partition("_")
        digits = re.sub(r"\D", "", number)
        built = (int(digits[:-1]), int(digits[-1]))
        if kind == "compute" and built <= card.capability:
            return True
        if kind == "sm" and built[0] == card.capability[0] and built[1] <= card.capability[1]:
            return True
    return False


def _names(cards: list[Card]) -> str:
    return ", ".join(card.label for card in cards)


def _major(cuda: str) -> int:
    return int(cuda.split(".", 1)[0])


if __name__ == "__main__":
    errors.run(main)
