"""What every Dockerfile keeps to."""

import re
import subprocess
from functools import cache
from pathlib import Path

import grimp
import pytest

from images.catalog import IMAGES, ROOT, copied

DOCKERFILES = sorted((ROOT / "images").glob("*/Dockerfile"))
STAND_INS = sorted((ROOT / "tests" / "cluster" / "images").glob("*/Dockerfile"))
COMPONENTS = [path for path in DOCKERFILES if path.parent.name != "torch"]
# Where each process begins; mlflow has no code of ours.
ENTRY = {
    "gateway": ("services.gateway", "services.database"),
    "control": ("services.control", "services.database"),
    "ui": ("services.ui",),
    "vllm": ("services.vllm",),
    "jobs": ("jobs",),
}


def name(path: Path) -> str:
    return path.parent.name


each = pytest.mark.parametrize("path", COMPONENTS, ids=name)


def test_each_component_has_one_and_the_catalog_knows_it() -> None:
    assert {name(path) for path in DOCKERFILES} == {image.component for image in IMAGES.values()}


@cache
def imports() -> grimp.ImportGraph:
    return grimp.build_graph("common", "jobs", "services", cache_dir=None)


@pytest.mark.parametrize("component", ENTRY)
def test_it_holds_the_code_that_it_imports_and_no_other_package(component: str) -> None:
    reached = _reached(ENTRY[component])
    text = (ROOT / "images" / component / "Dockerfile").read_text()
    held = {
        _module(path) for path in copied(text, ROOT) if path.suffix == ".py" and path.parts[-2] != "images"
    }
    assert reached <= held, f"{component} imports what its image lacks"
    assert {_package(module) for module in held} == {_package(module) for module in reached}


def test_mlflow_holds_no_code_of_ours() -> None:
    text = (ROOT / "images" / "mlflow" / "Dockerfile").read_text()
    assert [path for path in copied(text, ROOT) if path.suffix == ".py"] == []


def test_what_is_copied_passes_the_ignore_file() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    admitted = tuple(line[1:] for line in lines if line.startswith("!"))
    for path in DOCKERFILES:
        for file in copied(path.read_text(), ROOT):
            relative = file.relative_to(ROOT).as_posix()
            assert any(relative == one or relative.startswith(f"{one}/") for one in admitted), relative


@each
def test_it_runs_as_nobody_in_particular(path: Path) -> None:
    final = _stages(path)[-1]
    users = re.findall(r"^USER (.+)$", final, re.MULTILINE)
    assert users[-1] == "10001:10001"
    assert "HOME=/home/onggi" in final


@each
def test_its_labels_are_the_open_container_initiatives(path: Path) -> None:
    final = _stages(path)[-1]
    for label in ("title", "description", "licenses", "version"):
        assert f"org.opencontainers.image.{label}=" in final
    assert f'title="onggi-{name(path)}"' in final


@each
def test_it_has_a_command_and_no_entrypoint(path: Path) -> None:
    """Pods may then say ``args`` or ``command`` alike."""
    final = _stages(path)[-1]
    assert "\nCMD [" in final
    assert re.findall(r"^ENTRYPOINT (.+)$", final, re.MULTILINE) in ([], ["[]"])


@pytest.mark.parametrize("path", DOCKERFILES, ids=name)
def test_compilers_are_where_code_is_compiled_at_run_time(path: Path) -> None:
    assert bool(re.search(r"\b(gcc|g\+\+|build-essential)", path.read_text())) == (name(path) == "torch")


@pytest.mark.parametrize("path", DOCKERFILES, ids=name)
def test_packages_come_from_frozen_lists_and_leave_no_cache(path: Path) -> None:
    for command in re.split(r"&&|\n(?!\s)", path.read_text()):
        if "pip install" in command:
            assert "--no-deps" in command
            assert "--require-hashes" in command or "${TORCH_INDEX}" in command
            assert "uv pip" in command or "--no-cache-dir" in command
    for run in re.findall(r"^RUN (?:.*\\\n)*.*$", path.read_text(), re.MULTILINE):
        assert not re.search("uv pip install|install-packages", run) or "--mount=type=cache" in run
        assert "apt-get" not in run or "rm -rf /var/lib/apt/lists/*" in run


@pytest.mark.parametrize("path", DOCKERFILES, ids=name)
def test_bases_have_a_version_and_can_be_another_by_argument(path: Path) -> None:
    text = path.read_text()
    own = re.findall(r" AS (\w+)$", text, re.MULTILINE)
    for base in re.findall(r"^FROM (\S+)", text, re.MULTILINE):
        argument = re.fullmatch(r"\$\{(\w+_IMAGE)\}", base)
        assert argument or base in own, base
        default = re.search(rf"^ARG {argument[1]}=(\S+)$", text, re.MULTILINE) if argument else None
        assert default is None or ":" in default[1] or default[1] == "onggi-torch"


def test_the_shared_layer_has_what_both_lists_pin() -> None:
    """A package that differed would be in the shared layer and in the child's again: torch has gigabytes."""
    shared = {key: pins for key, pins in _pins("torch").items() if key != "setuptools"}
    for child in ("jobs", "vllm-cpu"):
        pins = _pins(child)
        assert {key: pins[key] for key in shared} == shared


def test_the_gpu_images_plugin_reads_what_the_tested_engine_reads() -> None:
    tested = _pins("vllm-cpu")
    assert {key: tested[key] for key in _pins("vllm")} == _pins("vllm")


def test_the_plugin_is_tested_with_the_version_that_the_gpu_image_has() -> None:
    (tested,) = _pins("vllm-cpu")["vllm-cpu"]
    assert f"vllm/vllm-openai:v{tested}\n" in (ROOT / "images" / "vllm" / "Dockerfile").read_text()


@pytest.mark.parametrize("path", DOCKERFILES + STAND_INS, ids=name)
def test_hadolint_has_nothing_to_say(path: Path) -> None:
    done = subprocess.run(["hadolint", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _stages(path: Path) -> list[str]:
    return re.split(r"^(?=FROM )", path.read_text(), flags=re.MULTILINE)[1:]


def _reached(packages: tuple[str, ...]) -> set[str]:
    graph = imports()
    reached: set[str] = set()
    waiting = [module for package in packages for module in {package} | graph.find_descendants(package)]
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            waiting += graph.find_modules_directly_imported_by(module)
            waiting += [parent] if (parent := module.rpartition(".")[0]) else []
    return reached - _namespaces()


def _namespaces() -> set[str]:
    return {module for module in imports().modules if not _file(module)}


def _file(module: str) -> bool:
    path = ROOT.joinpath(*module.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _package(module: str) -> str:
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "services" else parts[0]


def _pins(listed: str) -> dict[str, tuple[str, ...]]:
    text = (ROOT / "requirements" / f"{listed}.txt").read_text()
    pins: dict[str, tuple[str, ...]] = {}
    for package, version in re.findall(r"^([a-z0-9._-]+)==(\S+)", text, re.MULTILINE):
        pins[package] = (*pins.get(package, ()), version)
    return pins
