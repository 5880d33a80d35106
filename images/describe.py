"""Write the metadata by which Python knows onggi inside an image: its version, and vLLM's plugin.

    python3 describe.py FOLDER        beside pyproject.toml

What ``pip install`` would write, without a build backend and the network it needs.
"""

import sys
import tomllib
from pathlib import Path


def main(folder: Path) -> None:
    """Write ``folder/onggi-<version>.dist-info`` from the pyproject.toml beside this file."""
    project = tomllib.loads(Path(__file__).with_name("pyproject.toml").read_text())["project"]
    write(folder, project["name"], project["version"], project.get("entry-points", {}))


def write(folder: Path, name: str, version: str, entry_points: dict[str, dict[str, str]]) -> None:
    """The two files that ``importlib.metadata`` reads."""
    information = folder / f"{name}-{version}.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    groups = (
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in entries.items())
        for group, entries in entry_points.items()
    )
    (information / "entry_points.txt").write_text("\n".join(groups))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
