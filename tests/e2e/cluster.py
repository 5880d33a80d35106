"""Changes of the cluster itself while a test runs."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def change(*words: str) -> None:
    """``python -m tests.cluster`` with these words: ``add fleet``, ``gpus 2 --card rtx5090``."""
    subprocess.run([sys.executable, "-m", "tests.cluster", *words], check=True, cwd=ROOT)
