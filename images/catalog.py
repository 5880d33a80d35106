"""Which images there are, and what each is built from.

What an image holds is read from its Dockerfile alone: the build's content is the Dockerfile, every file that
it copies from the repository, and its build arguments. The same content has the same tag, on every machine.
"""

import hashlib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from common.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
_COPY = re.compile(r"^(?:COPY|ADD) (?!.*--from=)(.+)$", re.MULTILINE)
_ARGUMENT = re.compile(r"^ARG (\w+)", re.MULTILINE)


@dataclass(frozen=True)
class Image:
    """One image: ``onggi-<component>:<tag><suffix>``, made by one target of one Dockerfile."""

    component: str
    target: str | None = None
    suffix: str = ""
    parent: str | None = None
    """The image of ours that it stands on; the build argument ``<PARENT>_IMAGE`` names it."""


IMAGES = {
    "gateway": Image("gateway"),
    "control": Image("control"),
    "ui": Image("ui"),
    "mlflow": Image("mlflow"),
    "jobs": Image("jobs", parent="torch"),
    "jobs-cpu": Image("jobs", suffix="-cpu", parent="torch"),
    "vllm": Image("vllm", target="gpu"),
    "vllm-cpu": Image("vllm", target="cpu", suffix="-cpu", parent="torch"),
    "torch": Image("torch", target="cuda"),
    "torch-cpu": Image("torch", target="cpu", suffix="-cpu"),
}
# What `make images` makes: a cluster with GPUs needs these, and torch is made on the way.
DEFAULT = ("gateway", "control", "ui", "mlflow", "jobs", "vllm")


@dataclass(frozen=True)
class Build:
    """Everything that one build reads; ``reference`` names its result by its content."""

    name: str
    dockerfile: Path
    context: Path
    target: str | None = None
    arguments: Mapping[str, str] = field(default_factory=dict)
    suffix: str = ""

    @property
    def reference(self) -> str:
        """``onggi-gateway:3f9c0b1d2e4a``."""
        return f"{self.name}:{self.content}{self.suffix}"

    @cached_property
    def content(self) -> str:
        """Twelve hex digits of the sha256 over the Dockerfile, its arguments and the files that it copies.

        Taken once, before anything is built: a file that is edited meanwhile makes the next build's.
        """
        text = self.dockerfile.read_text()
        whole = hashlib.sha256(f"{text}\n{self.target}\n{sorted(self.arguments.items())}".encode())
        for path in copied(text, self.context):
            whole.update(f"\n{path.relative_to(self.context)} {path.stat().st_mode & 0o111:o}\n".encode())
            whole.update(hashlib.sha256(path.read_bytes()).digest())
        return whole.hexdigest()[:12]


def plan(names: Iterable[str], arguments: Mapping[str, str]) -> dict[str, Build]:
    """The builds behind ``names``, parents first; ``arguments`` are passed to the Dockerfiles that know them.

    Raises:
        UserError: a name is no image.
    """
    builds: dict[str, Build] = {}
    for name in names:
        if name not in IMAGES:
            raise UserError(f"there is no image {name}: use {', '.join(IMAGES)}")
        _add(builds, name, arguments)
    return builds


def release(name: str, tag: str) -> str:
    """The name that charts use: ``onggi-gateway:0.1.0``."""
    image = IMAGES[name]
    return f"onggi-{image.component}:{tag}{image.suffix}"


def version() -> str:
    """The project's version, the tag where none is given."""
    project: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project["version"]


def copied(dockerfile: str, context: Path) -> list[Path]:
    """Every file of ``context`` that a Dockerfile's text copies, sorted; compiled Python is none of them."""
    return sorted({file for source in _sources(dockerfile) for file in _files(context / source)})


def _add(builds: dict[str, Build], name: str, arguments: Mapping[str, str]) -> None:
    image = IMAGES[name]
    given = {"VERSION": version(), **arguments}
    if image.parent:
        # Without an index that has torch's build for CPUs, theirs is PyPI's.
        parent = image.parent + (image.suffix if "TORCH_INDEX" in arguments else "")
        _add(builds, parent, arguments)
        given[f"{image.parent.upper()}_IMAGE"] = builds[parent].reference
    dockerfile = ROOT / "images" / image.component / "Dockerfile"
    known = set(_ARGUMENT.findall(dockerfile.read_text()))
    builds[name] = Build(
        f"onggi-{image.component}",
        dockerfile,
        ROOT,
        image.target,
        {key: value for key, value in given.items() if key in known},
        image.suffix,
    )


def _sources(dockerfile: str) -> Iterator[str]:
    for line in _COPY.findall(dockerfile.replace("\\\n", " ")):
        yield from [word for word in line.split() if not word.startswith("--")][:-1]


def _files(path: Path) -> Iterator[Path]:
    if not path.exists():
        raise UserError(f"{path} is copied by a Dockerfile and is not there")
    found = path.rglob("*") if path.is_dir() else [path]
    return (file for file in found if file.is_file() and "__pycache__" not in file.parts)
