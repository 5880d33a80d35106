"""The figures of profiles with a card: those of the command that stands above them, or of the base's size."""

import json
import re
import shlex
import subprocess
import sys
from functools import cache
from typing import Any

import pytest
import yaml

from common.vram.shape import known
from tests.charts.rendering import CHART, ROOT

GIBIBYTE = 1 << 30
BF16_BYTES = 2
# Beside the weights: the interpreter with torch, and a row's logits in three copies.
BESIDE = 2.5 * GIBIBYTE
COMMAND = re.compile(r"^ *# python (-m jobs\.plan .*)$", re.MULTILINE)


@cache
def planned(command: str) -> dict[str, Any]:
    """What the planner prints."""
    arguments = [sys.executable, *shlex.split(command), "--json"]
    ran = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=True)
    return dict(json.loads(ran.stdout))


@pytest.mark.parametrize("profile", ["rtx5090", "rtx5060ti", "both", "only-serving"])
def test_a_servers_figures_are_the_planners(profile: str) -> None:
    text = (CHART / "values" / f"{profile}.yaml").read_text()
    servers = yaml.safe_load(text)["vllm"]["servers"].values()
    for server, command in zip(servers, COMMAND.findall(text), strict=True):
        assert f"--model {server['model'].partition('@')[0]} " in command
        plan = planned(command)
        assert plan["fits"], plan["what"]
        given = {
            "--max-model-len": server["maxModelLen"],
            "--max-loras": server["maxLoras"],
            "--max-lora-rank": server["maxLoraRank"],
            "--max-cpu-loras": server["maxCpuLoras"],
            **dict(flag.split("=") for flag in server["flags"] if flag != "--dtype=bfloat16"),
        }
        assert {flag: str(value) for flag, value in given.items()} == plan["flags"]


@pytest.mark.parametrize("profile", ["rtx5090", "rtx5060ti", "both"])
def test_the_judging_job_has_room_for_the_base_on_the_processor(profile: str) -> None:
    values = yaml.safe_load((CHART / "values" / f"{profile}.yaml").read_text())
    limit = values["jobs"]["evaluate"]["resources"]["limits"]["memory"]
    allowed = int(limit.removesuffix("Gi")) * GIBIBYTE
    for server in values["vllm"]["servers"].values():
        shape = known(server["model"].partition("@")[0])
        assert shape
        assert shape.parameters * BF16_BYTES + BESIDE <= allowed
