import json
from pathlib import Path

import pytest

from common import adapters
from common.adapters import AdapterError, AdapterManifest
from common.errors import UserError
from common.models import BaseModel
from common.names import VersionName

NAME = VersionName("support-bot", 7)
BASE = BaseModel(Path("/models/SmolLM2"), "SmolLM2", "sha256:00")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 16}))
    (tmp_path / "README.md").write_text("# support-bot")
    return tmp_path


@pytest.fixture
def manifest(folder: Path) -> AdapterManifest:
    return adapters.make_manifest(folder, name=NAME, base=BASE, rank=16)


def test_a_manifest_reads_back_and_matches_its_files(folder: Path, manifest: AdapterManifest) -> None:
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    read = adapters.read_manifest((folder / "manifest.json").read_bytes(), NAME)
    assert read == manifest == adapters.make_manifest(folder, name=NAME, base=BASE, rank=16)
    assert sorted(read.files) == ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    adapters.verify(folder, read)
    adapters.check_fit(read, base="SmolLM2", revision="sha256:00", max_rank=16)
    adapters.check_fit(read, base="SmolLM2", revision=None, max_rank=64)


def test_the_digest_does_not_depend_on_the_version_but_on_every_byte(
    folder: Path, manifest: AdapterManifest
) -> None:
    other = adapters.make_manifest(folder, name=VersionName("other", 1), base=BASE, rank=16)
    assert other.sha256 == manifest.sha256
    (folder / "README.md").write_text("# support-bot!")
    assert adapters.make_manifest(folder, name=NAME, base=BASE, rank=16).sha256 != manifest.sha256


def test_a_changed_or_missing_file_is_named(folder: Path, manifest: AdapterManifest) -> None:
    (folder / "adapter_model.safetensors").write_bytes(b"weightz")
    with pytest.raises(AdapterError, match=r"@7: adapter_model\.safetensors is not what was registered"):
        adapters.verify(folder, manifest)
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(AdapterError, match=r"support-bot@7: adapter_model\.safetensors is missing"):
        adapters.verify(folder, manifest)


@pytest.mark.parametrize(
    ("server", "sentence"),
    [
        ({"base": "Llama"}, "was trained on base SmolLM2, and this server has Llama"),
        ({"revision": "sha256:11"}, "at revision sha256:00, and this server has sha256:11: retrain"),
        ({"max_rank": 8}, "has rank 16, and this server allows 8: raise vLLM's --max-lora-rank"),
    ],
)
def test_a_server_that_cannot_serve_it_says_why(
    manifest: AdapterManifest, server: dict[str, object], sentence: str
) -> None:
    fitting = {"base": "SmolLM2", "revision": "sha256:00", "max_rank": 16}
    with pytest.raises(AdapterError, match=sentence):
        adapters.check_fit(manifest, **(fitting | server))  # type: ignore[arg-type]


def test_a_rank_other_than_the_manifests_is_noticed(folder: Path, manifest: AdapterManifest) -> None:
    wrong = manifest.model_copy(update={"rank": 8})
    with pytest.raises(AdapterError, match=r"adapter_config\.json says rank 16, its manifest 8"):
        adapters.verify(folder, wrong)


def test_a_manifest_that_lies_is_refused(manifest: AdapterManifest) -> None:
    values = manifest.model_dump()
    weights = values["files"]["adapter_model.safetensors"]
    forged = {"../../etc/passwd": weights, **values["files"]}
    digest = adapters.digest(adapters.AdapterManifest.model_validate(values | {"files": forged}).files)
    cases = [
        ("{}", "is damaged"),
        (json.dumps(values | {"name": "other@7"}), "is that of other@7"),
        (json.dumps(values | {"sha256": "00"}), "does not hold together"),
        (json.dumps(values | {"files": {}, "sha256": adapters.digest({})}), "does not hold together"),
        (json.dumps(values | {"files": forged, "sha256": digest}), "names files outside its folder"),
    ]
    for text, sentence in cases:
        with pytest.raises(AdapterError, match=f"support-bot@7: its manifest.json {sentence}"):
            adapters.read_manifest(text.encode(), NAME)


def test_vllm_serves_only_certain_ranks() -> None:
    assert [adapters.next_serving_rank(rank) for rank in (1, 2, 16, 17, 300)] == [1, 8, 16, 32, 320]
    with pytest.raises(UserError, match="rank 513 is above 512"):
        adapters.next_serving_rank(513)
