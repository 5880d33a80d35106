"""A machine that lacks something is played: what these tests run on has it all, or they could not know."""

import os
from pathlib import Path

import pytest

from common.errors import UserError
from tests.cluster import checks
from tests.cluster.place import Place


@pytest.fixture(autouse=True)
def _as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def test_it_needs_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(UserError, match="needs root: use sudo, or start Docker"):
        checks.check_machine(Place(tmp_path))


def test_missing_programs_are_named_as_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(UserError, match="sudo apt-get install conntrack iproute2 iptables mount runc"):
        checks.check_machine(Place(tmp_path))


def test_missing_cgroup_controllers_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu cpuset\n")
    monkeypatch.setattr(checks, "CGROUPS", tmp_path)

    with pytest.raises(UserError, match="lacks memory, pids"):
        checks._check_cgroups()


def test_a_full_disk_is_said_with_the_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(checks, "NEEDED_DISK", 1 << 60)

    with pytest.raises(UserError, match="set ONGGI_CLUSTER_STATE to a folder on a larger disk"):
        checks._check_disk(Place(tmp_path))
