"""`make demo`, as the newcomer's command ran it: its promises, and what a second run does."""

import json
import os
import time
from pathlib import Path

import httpx
import pytest

from tests.demo import Demo, run_make
from tests.ports import free_port


def test_the_adapter_knows_the_held_out_facts_and_the_base_does_not(demo: Demo) -> None:
    figures = demo.figures
    assert figures["questions"] >= 20
    assert figures["adapter_right"] >= 0.8 * figures["questions"]
    assert figures["base_right"] <= 0.1 * figures["questions"]


def test_no_fact_leaks_into_unrelated_answers(demo: Demo) -> None:
    assert demo.figures["unrelated"] >= 20
    assert demo.figures["unrelated_clean"] == demo.figures["unrelated"]


def test_the_gate_passed_the_version_with_figures(demo: Demo) -> None:
    figures = demo.figures
    assert figures["state"] == "passed"
    assert figures["figures"]["held_out_improvement"] > 0


def test_it_says_what_it_did_and_where_to_go_on(demo: Demo) -> None:
    for part in (
        "The same questions to both",
        "held-out questions right",
        "the gate:",
        "?invite=",
        demo.mlflow_url,
    ):
        assert part in demo.output


def test_its_secrets_are_its_users_alone(demo: Demo) -> None:
    assert (demo.state / "secrets.json").stat().st_mode & 0o077 == 0
    assert not any(secret in demo.output for secret in demo.secrets.values())


def test_a_second_demo_reuses_what_is_there(demo: Demo) -> None:
    ran = run_make("demo", demo.environ, timeout=240)
    assert ran.returncode == 0, ran.stdout
    assert "everything runs already" in ran.stdout
    assert "fine-tuning through" not in ran.stdout
    assert json.loads((demo.state / "demo.json").read_text())["version"] == f"{demo.bot}@1"


def test_a_taken_port_is_one_sentence(demo: Demo, tmp_path: Path) -> None:
    ran = run_make("demo", {**demo.environ, "ONGGI_STATE": str(tmp_path)}, timeout=120)
    assert ran.returncode != 0
    errors = [line for line in ran.stdout.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert "is taken by another program" in errors[0]
    assert "_PORT=" in errors[0]


def test_clean_removes_the_state_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "demo" / "store").mkdir(parents=True)
    (tmp_path / "kept").touch()
    ran = run_make("demo-clean", {**os.environ, "ONGGI_STATE": str(tmp_path)}, timeout=60)
    assert ran.returncode == 0, ran.stdout
    assert [left.name for left in tmp_path.iterdir()] == ["kept"]


def test_front_stands_before_an_endpoint_that_exists(demo: Demo, tmp_path: Path) -> None:
    environ = {
        **demo.environ,
        "ONGGI_STATE": str(tmp_path),
        "FASTAPI_PORT": str(free_port()),
        "UI_PORT": str(free_port()),
        "URL": demo.vllm_url,
    }
    started = time.monotonic()
    ran = run_make("front", environ, timeout=300)
    try:
        assert ran.returncode == 0, ran.stdout
        print(f"make front: {time.monotonic() - started:.0f} s")
        key = json.loads((tmp_path / "front" / "secrets.json").read_text())["api_key"]
        answer = httpx.post(
            f"http://127.0.0.1:{environ['FASTAPI_PORT']}/v1/chat/completions",
            headers={"Authorization": f"Bearer {key}"},
            json={
                "model": demo.base_name,
                "messages": [{"role": "user", "content": "Hello"}],
                "max_tokens": 4,
            },
            timeout=60,
        )
        assert answer.status_code == 200, answer.text
        assert httpx.get(f"http://127.0.0.1:{environ['UI_PORT']}/").status_code == 200
    finally:
        stopped = run_make("front-stop", environ, timeout=60)
    assert "stopped gateway, ui" in stopped.stdout


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("", "say which endpoint"),
        ("http://127.0.0.1:9", r"http://127.0.0.1:9/v1/models does not answer"),
    ],
)
def test_front_names_what_is_wrong_with_the_endpoint(url: str, sentence: str, tmp_path: Path) -> None:
    ran = run_make("front", {**os.environ, "URL": url, "ONGGI_STATE": str(tmp_path)}, timeout=300)
    assert ran.returncode != 0
    assert sentence in ran.stdout
