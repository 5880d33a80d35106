import re
from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import UserError
from tests.cluster import modules
from tests.cluster.modules import MODULES, SOURCES
from tests.cluster.place import KUBERNETES


def test_every_module_is_pinned() -> None:
    assert {path.name for path in SOURCES.iterdir()} == set(MODULES)
    for name in MODULES:
        sums = (SOURCES / name / "go.sum").read_text().splitlines()
        assert all(re.fullmatch(r"\S+ v\S+ h1:\S+=", line) for line in sums), name
        assert sums or not MODULES[name].programs


def test_kubernetes_and_what_it_says_of_itself_agree() -> None:
    assert f"k8s.io/kubernetes {KUBERNETES}\n" in (SOURCES / "kube" / "go.mod").read_text()


def test_a_changed_definition_is_another_folder() -> None:
    module = MODULES["containerd"]

    assert replace(module, tags="other").folder() != module.folder()


def test_without_go_a_build_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("ONGGI_CACHE", str(tmp_path))

    with pytest.raises(UserError, match=r"Go 1\.26 or newer"):
        modules.build(["coredns"])


def test_a_build_leaves_stdout_to_its_caller(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    go = programs / "go"
    go.write_text("#!/bin/sh\necho go1.26.0\n")
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("ONGGI_CACHE", str(tmp_path / "cache"))

    modules.build(["helm"])

    said = capsys.readouterr()
    assert "building helm" in said.err
    assert said.out == "", "`$(python -m tests.charts.helm)` is a path and nothing else"
