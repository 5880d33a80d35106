"""The launcher: vLLM's flags and environment out of our settings."""

import itertools
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from common.models import BaseModel
from common.settings import load
from services.vllm import launch
from services.vllm.settings import VllmSettings

BASE = BaseModel(Path("/models/SmolLM2"), "SmolLM2", "sha256:00")
ROOT = Path(__file__).resolve().parents[3]


def pairs(command: list[str]) -> dict[str, str]:
    return dict(itertools.pairwise(command))


def test_the_flags_follow_the_settings_and_what_is_given_by_hand_comes_last() -> None:
    settings = load(VllmSettings, vllm_port=8605, max_loras=20, max_cpu_loras=4, max_model_len=None)
    command = launch.build_command(settings, BASE, ["--quantization", "bitsandbytes"])
    flags = pairs(command)
    assert command[-2:] == ["--quantization", "bitsandbytes"]
    assert flags["--model"] == "/models/SmolLM2"
    assert flags["--served-model-name"] == "SmolLM2"
    assert flags["--port"] == "8605"
    assert flags["--max-cpu-loras"] == "20", "never fewer than one batch may hold"
    assert flags["--middleware"] == "services.vllm.allowlist.RouteAllowList"
    assert "--max-model-len" not in flags


def test_vllms_processes_learn_the_bases_name_and_revision_and_not_our_ports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONGGI_CACHE", str(tmp_path))
    environ = {"VLLM_PORT": "8000", "PYTHONDONTWRITEBYTECODE": "1", "STORE_URL": "s3://onggi", "PATH": "/bin"}
    made = launch.build_environ(load(VllmSettings), BASE, environ)
    assert made["DEFAULT_MODEL"] == "SmolLM2"
    assert made["MODEL_REVISION"] == "sha256:00"
    assert made["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"
    assert made["STORE_URL"] == "s3://onggi"
    assert made.keys().isdisjoint({"VLLM_PORT", "PYTHONDONTWRITEBYTECODE"})


def test_a_checkout_that_is_not_installed_still_has_its_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if metadata.entry_points(group=launch.GROUP, name=launch.PLUGIN):
        pytest.skip("onggi is installed in this environment, with its entry point")
    monkeypatch.setenv("ONGGI_CACHE", str(tmp_path))
    environ = {**os.environ, "PYTHONPATH": "/somewhere"}
    made = launch.build_environ(load(VllmSettings), BASE, environ)
    assert made["PYTHONPATH"].split(":")[1:] == [str(ROOT), "/somewhere"]
    script = (
        "from importlib.metadata import entry_points; import services.vllm;"
        "print([point.value for point in entry_points(group='vllm.general_plugins', name='onggi')])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], env=made, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "['services.vllm.plugin:register']"


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("MODEL", "no-such-model", "fetch it with `python -m jobs.download no-such-model`"),
        ("MAX_LORA_RANK", "24", "max_lora_rank: 24 is none of vLLM's ranks: use one of 1, 8, 16"),
        ("VLLM_PORT", "tcp://10.0.0.1:8000", "vllm_port = 'tcp://10.0.0.1:8000'"),
    ],
)
def test_a_setting_that_cannot_work_is_a_sentence_and_exit_code_2(
    tmp_path: Path, variable: str, value: str, sentence: str
) -> None:
    environ = {**os.environ, "MODEL_CACHE_DIR": str(tmp_path), variable: value}
    ran = subprocess.run(
        [sys.executable, "-m", "services.vllm"], env=environ, cwd=ROOT, capture_output=True, text=True
    )
    assert ran.returncode == 2
    assert sentence in ran.stderr
    assert "Traceback" not in ran.stderr
