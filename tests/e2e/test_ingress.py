"""Through a real Ingress controller: the API by path, streams, uploads, TLS, and what is not to be had."""

import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from openai import OpenAI

from tests.cluster.place import HTTP_PORT, HTTPS_PORT
from tests.e2e.conftest import BASE, HOST, Onggi

HTTP = f"http://127.0.0.1:{HTTP_PORT}"


@pytest.fixture(scope="module")
def outside(onggi: Onggi) -> Iterator[httpx.Client]:
    """Somebody who knows the host's name and nothing of the cluster."""
    with httpx.Client(base_url=HTTP, headers={"Host": HOST}, timeout=120) as client:
        yield client


def test_the_sdk_chats_and_the_stream_comes_as_it_is_made(onggi: Onggi) -> None:
    client = OpenAI(base_url=f"{HTTP}/v1", api_key=onggi.owner_key, default_headers={"Host": HOST})
    stream = client.chat.completions.create(
        model=BASE, messages=[{"role": "user", "content": "Tell me a story."}], max_tokens=40, stream=True
    )
    chunks = [chunk.choices[0].delta.content for chunk in stream if chunk.choices]
    assert len([text for text in chunks if text]) > 10


def test_each_path_is_its_components_and_metrics_are_nobodys(onggi: Onggi, outside: httpx.Client) -> None:
    key = {"Authorization": f"Bearer {onggi.owner_key}"}
    assert outside.get("/v1/models", headers=key).json()["data"][0]["id"] == BASE
    assert outside.get("/v1/fine_tuning/jobs", headers=key).json()["object"] == "list"
    assert outside.get("/onggi/v1/bots", headers=key).is_success
    assert "Onggi" in outside.get("/admin/login").text
    assert "Paste your invite link" in outside.get("/").text
    assert "/v1/fine_tuning/jobs" in outside.get("/openapi.json").json()["paths"]
    for path in ("/metrics", "/v1/metrics", "/onggi/metrics", "/admin/metrics"):
        answer = outside.get(path, headers=key)
        assert "onggi_" not in answer.text
        assert "# HELP" not in answer.text


def test_tls_by_a_secret_that_is_there(onggi: Onggi, certificate: Path) -> None:
    trusted = ssl.create_default_context(cafile=str(certificate))
    with httpx.Client(verify=trusted, timeout=60) as client:
        asked = httpx.Request(
            "GET", f"https://127.0.0.1:{HTTPS_PORT}/v1/models",
            headers={"Host": HOST, "Authorization": f"Bearer {onggi.owner_key}"},
            extensions={"sni_hostname": HOST},
        )  # fmt: skip
        assert client.send(asked).json()["data"][0]["id"] == BASE


@pytest.mark.full
def test_two_hundred_mebibytes_are_uploaded(onggi: Onggi, tmp_path: Path) -> None:
    row = {
        "messages": [{"role": "user", "content": "x" * 1000}, {"role": "assistant", "content": "y" * 1000}]
    }
    line = json.dumps(row).encode() + b"\n"
    path = tmp_path / "rows.jsonl"
    with path.open("wb") as file:
        for _ in range((200 << 20) // len(line) + 1):
            file.write(line)
    client = OpenAI(
        base_url=f"{HTTP}/v1", api_key=onggi.owner_key, default_headers={"Host": HOST}, timeout=600
    )
    made = client.files.create(file=path.open("rb"), purpose="fine-tune")
    assert made.bytes == path.stat().st_size
    client.files.delete(made.id)
