"""What Docker and buildah are asked for. Programs that write down their arguments stand in for both."""

from pathlib import Path

import pytest

from common.errors import UserError
from images import engine
from images.catalog import Build, plan

PROGRAM = """\
#!/bin/sh
echo "$(basename "$0") $*" >> {log}
case "$*" in {failing}) exit 1 ;; esac
"""


class Programs:
    """Programs of one folder, which is all of PATH, and what they were called with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"

    def add(self, name: str, failing: str = "nothing") -> None:
        (self.folder / name).write_text(PROGRAM.format(log=self.log, failing=failing))
        (self.folder / name).chmod(0o755)

    def calls(self, word: str) -> list[str]:
        return [line for line in self.log.read_text().splitlines() if f" {word} " in f"{line} "]


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("ONGGI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        engine.shutil, "which", lambda name: str(path) if (path := tmp_path / name).exists() else None
    )
    return Programs(tmp_path)


def child() -> Build:
    return plan(["jobs"], {"PYTHON_IMAGE": "python@sha256:0"})["jobs"]


def test_docker_is_taken_where_its_daemon_answers(programs: Programs) -> None:
    programs.add("docker")
    programs.add("buildah")
    assert isinstance(engine.find(), engine.Docker)


def test_buildah_is_taken_where_docker_has_no_daemon(programs: Programs) -> None:
    programs.add("docker", failing="info")
    programs.add("buildah")
    assert isinstance(engine.find(), engine.Buildah)


def test_docker_alone_without_a_daemon_is_not_enough(programs: Programs) -> None:
    programs.add("docker", failing="info")
    with pytest.raises(UserError, match="start Docker"):
        engine.find()


@pytest.mark.parametrize("tool", ["docker", "buildah"])
def test_a_build_passes_its_arguments_target_and_context(tool: str, programs: Programs) -> None:
    programs.add(tool)
    build = plan(["vllm-cpu"], {"PYTHON_IMAGE": "python@sha256:0"})["vllm-cpu"]
    engine.find().build(build)
    (call,) = programs.calls("build" if tool == "docker" else "bud")
    assert f"--tag={build.reference} --file={build.dockerfile}" in call
    assert "--build-arg=PYTHON_IMAGE=python@sha256:0" in call
    assert f"--build-arg=TORCH_IMAGE={build.arguments['TORCH_IMAGE']}" in call
    assert call.endswith(f"--target=cpu {build.context}")


def test_buildah_keeps_images_and_downloads_in_the_cache(programs: Programs, tmp_path: Path) -> None:
    programs.add("buildah")
    engine.find().build(child())
    (call,) = programs.calls("bud")
    assert f"--root={tmp_path}/cache/cluster/images/root" in call
    mounts = list((tmp_path / "cache/cluster/images/tmp").glob("*/onggi-uv"))
    assert mounts
    assert all(mount.resolve() == tmp_path / "cache" / "uv" for mount in mounts)


def test_a_registry_of_this_machine_is_plain_and_any_other_is_not(programs: Programs) -> None:
    programs.add("buildah")
    for registry in ("127.0.0.1:5000", "example.com"):
        engine.find().push("onggi-ui:1", f"{registry}/onggi-ui:1")
    here, elsewhere = programs.calls("push")
    assert "--tls-verify=false" in here
    assert "--tls-verify=false" not in elsewhere
    assert elsewhere.endswith("localhost/onggi-ui:1 docker://example.com/onggi-ui:1")


def test_docker_pushes_under_the_registrys_name(programs: Programs) -> None:
    programs.add("docker")
    engine.find().push("onggi-ui:1", "example.com/onggi-ui:1")
    assert programs.calls("tag") == ["docker tag onggi-ui:1 example.com/onggi-ui:1"]
    assert programs.calls("push") == ["docker push example.com/onggi-ui:1"]


def test_an_archive_has_the_name_that_a_cluster_looks_for(programs: Programs, tmp_path: Path) -> None:
    programs.add("buildah")
    engine.find().save("onggi-ui:1", tmp_path / "image.tar")
    (call,) = programs.calls("push")
    assert call.endswith(f"docker-archive:{tmp_path}/image.tar:docker.io/library/onggi-ui:1")


@pytest.mark.parametrize("tool", ["docker", "buildah"])
def test_a_build_that_fails_is_a_sentence(tool: str, programs: Programs) -> None:
    programs.add(tool, failing="*build*|*bud*")
    with pytest.raises(UserError, match="failed: its messages are above"):
        engine.find().build(child())
