"""The frozen lists hold what pyproject.toml asks for."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def direct(extra: str) -> list[Requirement]:
    """What ``extra`` asks for, through the extras that it names."""
    found: list[Requirement] = []
    for line in PROJECT["optional-dependencies"][extra]:
        requirement = Requirement(line)
        if requirement.name == "onggi":
            found += [asked for nested in requirement.extras for asked in direct(nested)]
        else:
            found.append(requirement)
    return found


def frozen(name: str) -> dict[str, str]:
    """Package to version in ``requirements/<name>.txt`` (of several by marker, the last)."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9._-]+)==([^ ;\\]+)", text, re.MULTILINE))


@pytest.mark.parametrize("name", ["front", "demo", "test"])
def test_every_direct_dependency_is_frozen_at_a_version_that_it_allows(name: str) -> None:
    versions = frozen(name)
    asked = [Requirement(line) for line in PROJECT["dependencies"]] + direct(name)
    wrong = [
        str(requirement)
        for requirement in asked
        if not requirement.specifier.contains(versions.get(requirement.name.lower().replace("_", "-"), "0"))
    ]
    assert not wrong, f"run `make lock`: {wrong}"


def test_a_package_has_one_version_in_front_demo_and_test() -> None:
    largest = frozen("test")
    for name in ("front", "demo"):
        smaller = frozen(name)
        assert {package: largest.get(package) for package in smaller} == smaller


def test_front_installs_no_torch() -> None:
    assert not {"torch", "transformers", "peft", "vllm"} & frozen("front").keys()


def test_the_environment_that_runs_the_tests_is_the_frozen_one() -> None:
    versions = frozen("test")
    assert {name: version(name) for name in ("fastapi", "torch", "pytest")} == {
        name: versions[name] for name in ("fastapi", "torch", "pytest")
    }
