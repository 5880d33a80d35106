"""Say what a fine-tune or a vLLM server takes of a card, whether it fits, and what would fit instead.

    python -m jobs.plan --model Llama-3.1-8B-Instruct --method qlora --length 2048 --batch 4 \
        --card rtx5060ti-16gb
    python -m jobs.plan --model Llama-3.1-8B-Instruct --serving --card rtx5090

Nothing is loaded and no card is needed. Exit codes: 0 it fits, 2 wrong values, 3 it does not fit.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from common import errors
from common.errors import UserError
from common.gpu_classes import class_name
from common.job_config import Environment, JobConfig, parse
from common.models import default_cache_dir
from common.vram import Plan, Serving, Shape, Training, gib, shape_of
from common.vram.cards import CARDS, MIB, card
from jobs.gpu import ask_driver

USUAL_CONTEXT = 4096
"""Planned where --context is not given and no context fits."""


class PlanConfig(JobConfig):
    """Plan the memory of a fine-tune or, with --serving, of a vLLM server."""

    model_config = SettingsConfigDict(env_prefix="PLAN_")

    model: str = Field(description="a model's name, hub id or folder; its weights are not needed")
    card: str | None = Field(
        None, description="rtx5090, rtx5060ti-16gb, ... or MiB; this machine's by default"
    )
    precision: Literal["bf16", "fp32", "fp8", "awq"] = Field(
        "bf16", description="bf16 or fp32 to train; bf16, fp8 or awq (4 bits) to serve"
    )
    json_output: bool = Field(False, alias="json", description="print one JSON object")

    method: Literal["lora", "qlora"] = Field("lora", description="qlora keeps the base in 4 bits (NF4)")
    rank: int = Field(16, ge=1, description="rank of the adapter")
    target_modules: str = Field("all-linear", description="all-linear, or names such as q_proj,v_proj")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the adapter's input")
    length: int = Field(1024, ge=8, description="longest row in tokens (max_length of jobs.finetune)")
    batch: int = Field(8, ge=1, description="rows at once on the device (batch_size of jobs.finetune)")
    supervised: float = Field(
        1.0, gt=0, le=1, description="share of the tokens that are learned from, at most"
    )

    serving: bool = Field(False, description="plan a vLLM server")
    context: int | None = Field(
        None, ge=16, description="tokens of a conversation; the most that fit by default"
    )
    sequences: int = Field(8, ge=1, description="conversations of that length at once")
    adapters: int = Field(3, ge=3, description="adapters at once: champion, candidate and one more at least")
    max_rank: int = Field(64, ge=1, description="highest rank of an adapter")

    model_cache_dir: Annotated[Path, Environment("MODEL_CACHE_DIR")] = Field(
        default_factory=default_cache_dir, description="where jobs.download keeps models"
    )

    @model_validator(mode="after")
    def _precision_of_the_mode(self) -> Self:
        allowed = ("bf16", "fp8", "awq") if self.serving else ("bf16", "fp32")
        if self.precision not in allowed:
            verb = "served" if self.serving else "trained"
            raise ValueError(f"precision {self.precision} cannot be {verb}: use {', '.join(allowed)}")
        return self


def main() -> None:
    """Print the plan as a table or JSON, and exit with 3 when it does not fit."""
    config = parse(PlanConfig, sys.argv[1:], prog="python -m jobs.plan")
    shape = shape_of(config.model, config.model_cache_dir)
    name, memory = find_card(config.card)
    work = _serving(config, shape, memory) if config.serving else _training(config, shape)
    plan = work.plan()
    flags = work.flags(memory) if isinstance(work, Serving) else {}
    if config.json_output:
        print(json.dumps(_as_json(plan, name, memory, flags), indent=2))
    else:
        _show(plan, name, memory, flags)
    if not plan.fits(memory):
        sys.exit(errors.EXIT_TOO_BIG)


def find_card(asked: str | None) -> tuple[str, int]:
    """A card's name and bytes: a known name, a number of MiB, or the largest card of this machine.

    Raises:
        UserError: the name is not known, or there is no card here and none was named.
    """
    names = ", ".join(known.name for known in CARDS)
    if asked is None:
        if not (here := ask_driver()[0]):
            raise UserError(f"there is no card here: give --card, one of {names}, or a number of MiB")
        largest = max(here, key=lambda found: found.memory)
        return class_name(largest.name.replace(" ", "-"), largest.memory), largest.memory * MIB
    if known := card(asked):
        return known.name, known.memory_bytes
    if asked.isdigit():
        return f"a card with {asked} MiB", int(asked) * MIB
    raise UserError(f"--card {asked} is not known: use one of {names}, or its memory in MiB")


def _training(config: PlanConfig, shape: Shape) -> Training:
    names = [name.strip() for name in config.target_modules.split(",") if name.strip()]
    return Training(
        shape,
        method=config.method,
        rank=config.rank,
        targets="all-linear" if names == ["all-linear"] else names,
        length=config.length,
        batch=config.batch,
        precision="fp32" if config.precision == "fp32" else "bf16",
        dropout=config.dropout,
        supervised=round(config.supervised * config.batch * config.length),
    )


def _serving(config: PlanConfig, shape: Shape, memory: int) -> Serving:
    precision: Any = config.precision
    server = Serving(
        shape,
        precision=precision,
        sequences=config.sequences,
        adapter_slots=config.adapters,
        max_rank=config.max_rank,
        context=config.context or min(USUAL_CONTEXT, shape.max_positions),
    )
    return server if config.context else server.with_longest_context(memory)


def _as_json(plan: Plan, name: str, memory: int, flags: dict[str, str]) -> dict[str, Any]:
    return {
        "what": plan.what,
        "card": name,
        "memory_bytes": memory,
        "parts": dict(plan.parts),
        "total_bytes": plan.total,
        "fits": plan.fits(memory),
        "ways": [] if plan.fits(memory) else plan.ways(memory),
        "flags": flags,
    }


def _show(plan: Plan, name: str, memory: int, flags: dict[str, str]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("part", title=plan.what, title_justify="left", show_footer=True)
    table.columns[0].footer = "total"
    table.add_column("GiB", justify="right", footer=_gib_number(plan.total))
    for part, size in plan.parts.items():
        table.add_row(part, _gib_number(size))
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    flags_of = "" if flags else " (flags of jobs.finetune)"
    console.print(verdict(plan, name, memory, flags_of), markup=False)
    if flags and plan.fits(memory):
        console.print("vLLM: " + " ".join(f"{flag} {value}" for flag, value in flags.items()), markup=False)


def verdict(plan: Plan, name: str, memory: int, flags_of: str = "") -> str:
    """Whether it fits, in a sentence; ``flags_of`` says whose flags the ways are."""
    if plan.fits(memory):
        return f"It fits {name} ({gib(memory)}) with {gib(memory - plan.total)} to spare."
    missing = f"{gib(plan.total - memory)} are missing"
    return f"It does not fit {name} ({gib(memory)}): {missing}. Would fit{flags_of}: {plan.way_out(memory)}."


def _gib_number(size: int) -> str:
    return gib(size).removesuffix(" GiB")


if __name__ == "__main__":
    errors.run(main)
