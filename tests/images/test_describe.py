"""An image knows onggi's version, and vLLM finds the plugin in it."""

import shutil
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

from images.catalog import ROOT, version


def test_the_metadata_is_what_an_installation_would_have(tmp_path: Path) -> None:
    for file in ("images/describe.py", "pyproject.toml"):
        shutil.copy(ROOT / file, tmp_path)
    subprocess.run([sys.executable, tmp_path / "describe.py", tmp_path / "app"], check=True)
    (described,) = distributions(path=[str(tmp_path / "app")])
    assert (described.name, described.version) == ("onggi", version())
    (plugin,) = described.entry_points.select(group="vllm.general_plugins", name="onggi")
    assert plugin.value == "services.vllm.plugin:register"
