"""What the README tells a person to type exists."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TARGETS = sorted(set(re.findall(r"`?make ([a-z0-9-]+)", README)))
MODULES = sorted(set(re.findall(r"python -m (jobs\.[a-z]+)", README)))


@pytest.mark.parametrize("target", TARGETS)
def test_every_make_target_of_the_readme_exists_and_is_listed(target: str) -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert f"make {target} " in listed


@pytest.mark.parametrize("module", MODULES)
def test_every_job_of_the_readme_can_be_run(module: str) -> None:
    path = ROOT / module.replace(".", "/")
    runnable = (path.with_suffix(".py"), path / "__main__.py")
    assert any(file.exists() and "__main__" in file.read_text() for file in runnable)


def test_every_link_of_the_readme_and_the_documents_leads_somewhere() -> None:
    for page in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_ci_runs_the_readmes_test_command() -> None:
    assert "make test" in README
    assert "make test" in (ROOT / ".ci" / "run").read_text().splitlines()
