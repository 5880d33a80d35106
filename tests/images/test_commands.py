"""Which images are built, named, kept and sent."""

import json
import sys
from pathlib import Path

import pytest

from common.errors import UserError
from images import __main__ as command
from images import engine, load
from images.catalog import Build, plan, release
from images.make import build_all

TAG = "0.1.0"


class RecordingEngine:
    """Stands in for Docker and buildah, which not every machine that runs tests has: a store of names."""

    def __init__(self) -> None:
        self.store: list[str] = []
        self.built: list[str] = []
        self.pushed: list[str] = []

    def has(self, reference: str) -> bool:
        return reference in self.store

    def build(self, build: Build) -> None:
        self.built.append(build.reference)
        self.store.insert(0, build.reference)

    def tag(self, reference: str, other: str) -> None:
        assert reference in self.store
        self.store = [other, *(name for name in self.store if name != other)]

    def tags(self, name: str) -> list[str]:
        return [tag for stored, _, tag in (entry.partition(":") for entry in self.store) if stored == name]

    def remove(self, reference: str) -> None:
        self.store.remove(reference)

    def push(self, reference: str, address: str) -> None:
        assert reference in self.store
        self.pushed.append(address)

    def save(self, reference: str, archive: Path) -> None:
        archive.write_text(reference)


def test_only_what_has_changed_is_built() -> None:
    tool, builds = RecordingEngine(), plan(["gateway", "jobs"], {})
    build_all(tool, builds, TAG)
    assert tool.built == [builds[name].reference for name in ("gateway", "torch", "jobs")]
    tool.built.clear()
    build_all(tool, builds, TAG)
    assert tool.built == []
    changed = plan(["gateway", "jobs"], {"PYTHON_IMAGE": "python@sha256:0"})
    build_all(tool, {**builds, "gateway": changed["gateway"]}, TAG)
    assert tool.built == [changed["gateway"].reference]


def test_two_contents_of_an_image_are_kept_and_releases_stay() -> None:
    tool = RecordingEngine()
    builds = [plan(["ui"], {"PYTHON_IMAGE": base})["ui"] for base in ("a", "b", "c")]
    for build in builds:
        build_all(tool, {"ui": build}, TAG)
    tool.store.append("onggi-ui:0.0.9")
    assert {builds[1].reference, builds[2].reference, release("ui", TAG), "onggi-ui:0.0.9"} == set(tool.store)


def test_the_two_variants_of_an_image_do_not_push_each_other_out() -> None:
    tool = RecordingEngine()
    gpu = plan(["vllm"], {})
    build_all(tool, gpu, TAG)
    for base in ("a", "b", "c"):
        build_all(tool, plan(["vllm-cpu"], {"PYTHON_IMAGE": base}), TAG)
    assert gpu["vllm"].reference in tool.store


def test_a_push_sends_the_tag_and_the_content() -> None:
    tool, builds = RecordingEngine(), plan(["vllm-cpu"], {})
    build_all(tool, builds, TAG)
    command.push_all(tool, {"vllm-cpu": builds["vllm-cpu"]}, TAG, "example.com/team/")
    assert tool.pushed == [
        f"example.com/team/onggi-vllm:{TAG}-cpu",
        f"example.com/team/{builds['vllm-cpu'].reference}",
    ]


def test_names_are_printed_without_any_tool(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["images", "names", "ui", "--registry", "example.com"])
    monkeypatch.setenv("PATH", "")
    command.main()
    expected = plan(["ui"], {})["ui"].reference
    assert json.loads(capsys.readouterr().out) == {"ui": f"example.com/{expected}"}


def test_a_push_needs_a_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["images", "push", "ui"])
    with pytest.raises(UserError, match="make images-push REGISTRY="):
        command.main()


def test_a_machine_without_docker_and_buildah_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="start Docker, or `sudo apt-get install buildah`"):
        engine.find()


def test_a_machine_without_a_cluster_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="or use `make images-push REGISTRY=`"):
        load.find()


@pytest.mark.parametrize(
    ("kind", "imported"),
    [
        ("kind", "kind load image-archive {} --name kind"),
        ("k3s", "k3s ctr --namespace k8s.io images import {}"),
        ("containerd", "ctr --namespace k8s.io images import {}"),
    ],
)
def test_each_cluster_imports_the_archive(
    kind: str, imported: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, log = tmp_path / imported.split(maxsplit=1)[0], tmp_path / "log"
    program.write_text(f'#!/bin/sh\necho "$(basename "$0") $*" > {log}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    tool = RecordingEngine()
    load.load(tool, f"onggi-ui:{TAG}", kind)
    (archive,) = [word for word in log.read_text().split() if word.endswith(".tar")]
    assert log.read_text().strip() == imported.format(archive)
