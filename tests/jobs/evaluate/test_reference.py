"""What a version is compared with, by what control says is served."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from common.adapters import CONFIG, WEIGHTS, AdapterManifest, FileEntry, digest
from common.errors import AwayError
from common.models import BaseModel
from common.names import VersionName
from common.storage import MANIFEST, Store, open_store
from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.reference import find_reference
from jobs.evaluate.version import Version

NAME = "support-bot@7"


class FakeControl(ThreadingHTTPServer):
    """Control's edge: answers by path, and 404 elsewhere."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages: dict[str, dict[str, Any]] = {}


class Handler(BaseHTTPRequestHandler):
    server: FakeControl

    def do_GET(self) -> None:
        page = self.server.pages.get(self.path)
        self.send_response(200 if page else 404)
        self.end_headers()
        self.wfile.write(json.dumps(page or {"error": {"message": "no such thing"}}).encode())

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def control() -> Iterator[FakeControl]:
    with FakeControl() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield server
        server.shutdown()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def publish(store: Store, name: str, base: str = "small") -> Version:
    version = VersionName.parse(name)
    assert version is not None
    files = {file: FileEntry(sha256="ab", bytes=1) for file in (WEIGHTS, CONFIG)}
    manifest = AdapterManifest(name=name, base=base, revision="r", rank=8, files=files, sha256=digest(files))
    store.put_bytes(manifest.model_dump_json().encode(), f"{version.folder}/{MANIFEST}")
    return Version(version, manifest, BaseModel(Path(), base, "r"), None)


def found(control: FakeControl, store: Store, **options: Any) -> tuple[str, str]:
    url = f"http://127.0.0.1:{control.server_port}"
    config = EvaluateConfig(version=NAME, control_url=url, control_token="secret", **options)
    reference = find_reference(config, publish(store, NAME), store)
    return reference.model, reference.words


def serve(control: FakeControl, champion: int | None, erased_at: int | None = None) -> None:
    control.pages["/onggi/v1/bots/support-bot"] = {"champion": champion}
    control.pages[f"/onggi/v1/versions/support-bot@{champion}"] = {"erased_at": erased_at}


def test_the_champion_is_what_must_be_improved_on(control: FakeControl, store: Store) -> None:
    publish(store, "support-bot@6")
    serve(control, 6)
    assert found(control, store) == ("support-bot@6", "support-bot@6")


@pytest.mark.parametrize("champion", [None, 7])
def test_a_bot_without_another_version_is_compared_with_its_base(
    control: FakeControl, store: Store, champion: int | None
) -> None:
    serve(control, champion)
    assert found(control, store) == ("small", "the base")


def test_a_bot_that_control_does_not_know_yet_is_compared_with_its_base(
    control: FakeControl, store: Store
) -> None:
    assert found(control, store) == ("small", "the base")


def test_what_is_asked_for_goes_before_what_is_served(control: FakeControl, store: Store) -> None:
    publish(store, "support-bot@5")
    serve(control, 6)
    assert found(control, store, against="support-bot@5")[0] == "support-bot@5"
    assert found(control, store, against="base") == ("small", "the base")


def test_losses_a_token_of_another_base_are_not_compared(control: FakeControl, store: Store) -> None:
    publish(store, "support-bot@6", base="large")
    serve(control, 6)
    assert found(control, store) == ("small", "the base (what support-bot@6 says is another base's)")


def test_nobody_must_be_better_than_what_learned_from_erased_words(
    control: FakeControl, store: Store
) -> None:
    publish(store, "support-bot@6")
    serve(control, 6, erased_at=1_700_000_000)
    assert found(control, store) == ("small", "the base (support-bot@6 learned from words that were erased)")


def test_a_control_that_is_away_is_worth_a_retry(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.control_client.PAUSES", ())
    config = EvaluateConfig(version=NAME, control_url="http://127.0.0.1:9")
    with pytest.raises(AwayError, match="control does not answer"):
        find_reference(config, publish(store, NAME), store)
