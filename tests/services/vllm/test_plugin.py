"""Versions of bots on a real vLLM: by name, on demand, each one's trouble its own."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from common import adapters
from common.storage import MANIFEST, Store
from tests.services.vllm.adapters import Publisher
from tests.services.vllm.server import BASE, Server


def test_a_published_version_answers_by_its_name_and_otherwise_than_its_base(
    server: Server, publisher: Publisher
) -> None:
    publisher.publish("support-bot@1", seed=1)
    publisher.publish("support-bot@2", seed=2)
    base, one, two = (server.chat(name).text for name in (BASE, "support-bot@1", "support-bot@2"))
    assert len({base, one, two}) == 3
    assert server.chat("support-bot@1").text == one
    listed = [model["id"] for model in server.get("/v1/models").body["data"]]
    assert {BASE, "support-bot@1", "support-bot@2"} <= set(listed)


def test_several_people_may_ask_first_at_once(server: Server, publisher: Publisher) -> None:
    publisher.publish("many-bot@1", seed=1)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: server.chat("many-bot@1"), range(8)))
    assert {answer.status for answer in answers} == {200}
    assert server.log.count("Resolved and loaded LoRA adapter 'many-bot@1'") == 1


@pytest.mark.parametrize(
    "name", ["support-bot@99", "nobody@1", "support-bot", "../../etc@1", "support-bot@07"]
)
def test_a_name_that_nobody_registered_is_a_404(server: Server, name: str) -> None:
    answer = server.chat(name)
    assert answer.status == 404
    assert name in answer.message


def test_weights_that_were_altered_in_the_store_are_refused_until_they_are_mended(
    server: Server, publisher: Publisher, store: Store
) -> None:
    version = publisher.publish("altered-bot@1", seed=3)  # not cached under another name
    key = f"{version.folder}/{adapters.WEIGHTS}"
    whole = store.get_bytes(key)
    store.put_bytes(whole[:-1] + bytes([whole[-1] ^ 1]), key)
    refused = server.chat("altered-bot@1")
    assert refused.status == 400
    assert "altered-bot@1: adapter_model.safetensors is not what was registered" in refused.message
    store.put_bytes(whole, key)
    assert server.chat("altered-bot@1").text


@pytest.mark.parametrize(
    ("name", "claims", "reason"),
    [
        ("other-base@1", {"base": "Llama-3.1-8B"}, "was trained on base Llama-3.1-8B"),
        ("other-revision@1", {"revision": "sha256:11"}, "at revision sha256:11"),
        ("false-digest@1", {"sha256": "0" * 64}, "does not hold together"),
        ("false-rank@1", {"rank": 4}, "says rank 8, its manifest 4"),
    ],
)
def test_a_version_for_another_server_is_a_400_that_says_why(
    server: Server, publisher: Publisher, name: str, claims: dict[str, object], reason: str
) -> None:
    publisher.publish(name, claims=claims)
    answer = server.chat(name)
    assert answer.status == 400
    assert reason in answer.message
    assert server.chat(BASE).text


def test_a_rank_above_the_servers_is_a_400_that_says_why(server: Server, publisher: Publisher) -> None:
    publisher.publish("wide-bot@1", rank=32)
    answer = server.chat("wide-bot@1")
    assert answer.status == 400
    assert "wide-bot@1 has rank 32, and this server allows 16" in answer.message


def test_files_that_vllm_cannot_load_are_a_400_for_that_name_only(
    server: Server, publisher: Publisher
) -> None:
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 8, "target_modules": ["q_proj"]}
    files = {adapters.WEIGHTS: b"not safetensors", adapters.CONFIG: json.dumps(config).encode()}
    publisher.publish_files("broken-bot@1", files)
    assert server.chat("broken-bot@1").status == 400
    assert server.chat(BASE).text


def test_while_the_store_is_away_only_names_not_loaded_yet_are_503(
    server: Server, publisher: Publisher, store: Store
) -> None:
    publisher.publish("here-bot@1", seed=1)
    publisher.publish("away-bot@1", seed=2)
    loaded = server.chat("here-bot@1").text
    folder = Path(store.url)
    away = folder.with_name("elsewhere")
    folder.rename(away)
    try:
        answer = server.chat("away-bot@1")
        assert answer.status == 503
        assert "away-bot@1 cannot be fetched now" in answer.message
        assert server.chat("here-bot@1").text == loaded
        assert server.chat(BASE).text
    finally:
        away.rename(folder)
    assert server.chat("away-bot@1").text


def test_a_store_that_hangs_holds_up_nobody_who_asks_for_something_else(
    server: Server, publisher: Publisher, store: Store
) -> None:
    publisher.publish("ready-bot@1", seed=1)
    pipe = Path(store.url) / "adapters/slow-bot/1" / MANIFEST
    pipe.parent.mkdir(parents=True)
    os.mkfifo(pipe)  # opening it to read waits for somebody who writes
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(server.chat, "slow-bot@1")
        assert server.chat(BASE).text
        assert server.chat("ready-bot@1").text
        assert not waiting.done()
        pipe.write_bytes(b"{}")
        assert waiting.result().status == 503


def test_after_a_restart_the_same_names_answer_alike_with_no_action_of_anyone(
    server: Server, publisher: Publisher
) -> None:
    publisher.publish("lasting-bot@1", seed=1)
    before = server.chat("lasting-bot@1").text
    server.stop()
    cached = next((server.folder / "adapters").glob(f"*/{adapters.WEIGHTS}"))
    cached.write_bytes(b"damaged while nobody looked")
    server.start()
    assert server.chat("lasting-bot@1").text == before
    assert server.chat(BASE).text
