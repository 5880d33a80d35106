"""services.app: which requests are control's, and that both live in one process."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from common.settings import load
from services import openapi
from services.app import belongs_to_control, create_app
from services.control.settings import ControlSettings
from services.gateway.app import DOCUMENT
from services.gateway.settings import GatewaySettings

KEY = f"sk-onggi-{'a' * 43}"


@pytest.mark.parametrize(
    ("path", "control"),
    [
        ("/v1/files", True),
        ("/v1/files/file-1/content", True),
        ("/v1/fine_tuning/jobs", True),
        ("/onggi/v1/bots", True),
        ("/admin/", True),
        ("/v1/chat/completions", False),
        ("/v1/models", False),
        ("/v1/filesystem", False),
        ("/administrator", False),
        ("/docs", False),
        ("/", False),
    ],
)
def test_a_path_belongs_to_one_of_the_two(path: str, control: bool) -> None:
    assert belongs_to_control(path) is control


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    settings = {
        "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/onggi.db",
        "STORE_URL": str(tmp_path / "store"),
        "JOBS_DIR": str(tmp_path / "jobs"),
        "API_KEY": KEY,
        "DEFAULT_MODEL": "base",
        "VLLM_BASE_URL": "http://127.0.0.1:9/v1",
        "RUNNER": "none",
        "JWT_SECRET_KEY": "j" * 40,
        "ADMIN_PASSWORD": "a" * 12,
        "CONTROL_TOKEN": "c" * 40,
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with TestClient(create_app(load(GatewaySettings), load(ControlSettings))) as made:
        made.headers["Authorization"] = f"Bearer {KEY}"
        yield made


def test_one_process_answers_for_both_with_one_database(client: TestClient) -> None:
    assert client.get("/onggi/v1/bots").json()["data"] == []
    assert client.get("/health").status_code == 200
    created = client.post("/onggi/v1/keys", json={"name": "app"})
    assert created.status_code in (200, 201), created.text
    made = {"Authorization": f"Bearer {created.json()['key']}"}
    assert client.get("/v1/models", headers=made).status_code == 200
    assert client.get("/v1/models", headers={"Authorization": f"Bearer {KEY}x"}).status_code == 401


def test_one_document_describes_both(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/v1/chat/completions", "/v1/fine_tuning/jobs", "/onggi/v1/bots"} <= paths.keys()
    assert client.get("/docs").status_code == 200


def test_the_committed_document_is_what_the_applications_say() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == openapi.text(), "run `make docs`"
