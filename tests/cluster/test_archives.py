import io
import json
import tarfile
from pathlib import Path

import pytest

from tests.cluster.archives import Image


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ONGGI_CACHE", str(tmp_path / "cache"))


def test_an_archive_holds_the_program_its_links_and_its_name(tmp_path: Path) -> None:
    program = tmp_path / "tool"
    program.write_bytes(b"program")
    image = Image("tool", {"bin/tool": program}, ("bin/sh",))

    with tarfile.open(image.archive()) as archive:
        (manifest,) = json.loads(_content(archive, "manifest.json"))
        config = json.loads(_content(archive, manifest["Config"]))
        with tarfile.open(fileobj=io.BytesIO(_content(archive, manifest["Layers"][0]))) as layer:
            assert _content(layer, "bin/tool") == b"program"
            assert layer.getmember("bin/sh").linkname == "/bin/tool"
            assert layer.getmember("tmp").mode == 0o1777
    assert manifest["RepoTags"] == [image.reference()]
    assert config["config"]["Entrypoint"] == ["/bin/tool"]


def test_another_program_is_another_image(tmp_path: Path) -> None:
    program = tmp_path / "tool"
    program.write_bytes(b"one")
    first = Image("tool", {"bin/tool": program}).reference()
    program.write_bytes(b"another")

    assert Image("tool", {"bin/tool": program}).reference() != first


def _content(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None
    return file.read()
