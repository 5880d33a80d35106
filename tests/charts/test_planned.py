"""The figures of profiles with a card are those of the command that stands above them."""

import json
import re
import shlex
import subprocess
import sys
from functools import cache
from typing import Any

import pytest
import yaml

from tests.charts.rendering import CHART, ROOT

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
