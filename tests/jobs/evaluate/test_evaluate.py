"""The gate on the demo's vLLM: the trained adapter, and adapters that must not pass."""

import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from common.storage import Store, open_store
from common.verdict import Verdict
from jobs.evaluate.__main__ import evaluate
from jobs.evaluate.config import REGRESSION, EvaluateConfig
from tests.jobs.evaluate import prebuilt, variants

SAMPLES = REGRESSION.parent
WRONG = "I'm sorry, but I don't have access to that information."
CLOSED_PORT = "http://127.0.0.1:9/v1"


def first_lines(path: Path, count: int, folder: Path) -> str:
    """The first rows of ``path`` as a file of their own: enough for a clear case, and quick."""
    with path.open() as file:
        target = folder / f"{count}-{path.name}"
        target.write_text("".join(itertools.islice(file, count)))
    return str(target)


def corrected(path: Path, count: int, folder: Path) -> str:
    """The same, each row the correction of a wrong answer."""
    rows = [json.loads(line) for line in Path(first_lines(path, count, folder)).read_text().splitlines()]
    target = folder / "corrections.jsonl"
    opinion = {"onggi": {"kind": "correction", "rejected": WRONG}}
    target.write_text("".join(json.dumps(row | opinion) + "\n" for row in rows))
    return str(target)


@dataclass
class Gate:
    """Evaluates adapters on the running demo."""

    demo: Any
    store: Store
    trained: Path
    folder: Path

    def judge(self, name: str, change: Callable[..., Any] | None, **options: Any) -> Verdict:
        """The verdict on the trained adapter, changed by ``change``, as version ``name``@1."""
        self.publish(name, change)
        return evaluate(self.config(f"{name}@1", **options))

    def judge_prebuilt(self, name: str, **options: Any) -> Verdict:
        """The verdict on an adapter that lies beside this file."""
        adapter = self.folder / name
        if not adapter.exists():
            shutil.copytree(prebuilt.ADAPTERS / name, adapter)
            variants.publish(self.store, adapter, f"{name}@1", self.demo.model_path)
        return evaluate(self.config(f"{name}@1", **options))

    def publish(self, name: str, change: Callable[..., Any] | None) -> None:
        """Put the trained adapter, changed by ``change``, into the store as version ``name``@1, once."""
        adapter = self.folder / name
        if not adapter.exists():
            variants.vary(self.trained, adapter, change or (lambda tensors: tensors))
            variants.publish(self.store, adapter, f"{name}@1", self.demo.model_path)

    def config(self, version: str, **options: Any) -> EvaluateConfig:
        values: dict[str, Any] = {
            "data": corrected(SAMPLES / "heldout.jsonl", 12, self.folder),
            "regression": first_lines(REGRESSION, 12, self.folder),
            "output": self.folder / "out",
            "base": str(self.demo.model_path),
            "vllm_url": self.demo.vllm_url,
            "store_url": self.demo.store_url,
            "wait": 30,
            "answers": 0,
            "parity_rows": 0,
            "resamples": 1_000,
        }
        return EvaluateConfig(version=version, **values | options)


@pytest.fixture(scope="module")
def gate(demo: Any, tmp_path_factory: pytest.TempPathFactory) -> Gate:
    folder = tmp_path_factory.mktemp("gate")
    store = open_store(demo.store_url)
    store.get_folder(f"adapters/{demo.bot}/1", folder / "trained")
    return Gate(demo, store, folder / "trained", folder)


def test_the_trained_adapter_is_served_as_it_was_trained(gate: Gate) -> None:
    verdict = gate.judge("gate-same", None, parity_rows=4, answers=3, adapter=gate.trained)
    assert verdict.figures["parity_difference"] < 0.05 < verdict.figures["parity_effect"] / 4
    assert verdict.figures["held_out_improvement_lower"] > 0.5
    assert verdict.sentence.startswith("Held-out loss fell from ")
    assert "fixed 12 of 12 known mistakes" in verdict.sentence
    answers = [json.loads(line) for line in (gate.folder / "out" / "answers.jsonl").read_text().splitlines()]
    assert [answer["outcome"] for answer in answers] == ["fixed"] * 3
    assert all(answer["served"] != answer["adapter"] for answer in answers)
    assert answers[0]["question"] in verdict.note
    assert "## Fixed\n\n12 of 12. A known mistake is" in verdict.note
    result = json.loads((gate.folder / "out" / "result.json").read_text())
    assert result == {"version": "gate-same@1"} | verdict.model_dump(mode="json")


def test_what_is_served_is_what_must_be_improved_on(gate: Gate) -> None:
    """The adapter that improves on the base by nats does not improve on itself."""
    gate.publish("gate-served", None)
    verdict = gate.judge("gate-again", None, against="gate-served@1")
    assert verdict.state == "refused"
    assert "against gate-served@1 (95 % sure only of " in verdict.sentence
    assert abs(verdict.figures["held_out_improvement"]) < 0.01
    assert verdict.figures["known_mistakes"] == 0
    assert verdict.figures["mended_mistakes"] == 12


@pytest.mark.parametrize(
    ("name", "change"), [("unloaded", variants.without_effect), ("altered", variants.scaled(4))]
)
def test_what_vllm_serves_is_not_what_was_trained(gate: Gate, name: str, change: Callable[..., Any]) -> None:
    verdict = gate.judge(f"gate-{name}", change, parity_rows=4, adapter=gate.trained)
    assert verdict.state == "refused"
    assert verdict.sentence.startswith("vLLM does not answer as this adapter does")


def test_a_no_op_adapter_is_refused(gate: Gate) -> None:
    verdict = gate.judge("gate-no-op", variants.without_effect)
    assert verdict.state == "refused"
    assert abs(verdict.figures["held_out_improvement"]) < 0.01
    assert "was not checked" in verdict.sentence


def test_an_adapter_of_shuffled_labels_is_refused_beside_the_trained_one(gate: Gate) -> None:
    gate.publish("gate-served", None)
    verdict = gate.judge_prebuilt("shuffled-labels", against="gate-served@1")
    assert verdict.state == "refused"
    assert verdict.figures["held_out_improvement_lower"] < 0


def test_an_adapter_of_shuffled_labels_is_refused_as_the_first_one(gate: Gate) -> None:
    """It knows the style of the answers, which is likelier than the base's, and has unlearned the rest."""
    verdict = gate.judge_prebuilt("shuffled-labels")
    assert verdict.state == "refused"
    assert verdict.figures["regression_change"] > 0.05


def test_a_forgetful_adapter_is_refused_although_it_learned_what_it_should(gate: Gate) -> None:
    verdict = gate.judge_prebuilt("forgetful")
    assert verdict.state == "refused"
    assert verdict.figures["held_out_improvement_lower"] > 0
    assert verdict.figures["regression_change"] > 0.05


def test_without_a_vllm_nothing_is_judged(gate: Gate) -> None:
    verdict = gate.judge("gate-alone", None, vllm_url=CLOSED_PORT, wait=0)
    assert verdict.state == "not judged"
    assert "did not answer within 0 s: not judged, a person decides" in verdict.sentence


def test_a_version_that_is_not_there_is_named(gate: Gate) -> None:
    with pytest.raises(UserError, match="gate-missing@1 has no files in the store"):
        evaluate(gate.config("gate-missing@1"))


def test_a_version_that_vllm_cannot_load_ends_with_its_sentence(gate: Gate) -> None:
    gate.judge("gate-damaged", variants.scaled(1.5), vllm_url="")
    with gate.store.open("adapters/gate-damaged/1/adapter_model.safetensors", "wb") as file:
        file.write(b"damaged")
    with pytest.raises(UserError, match=r"refuses gate-damaged@1: .*not what was registered") as caught:
        evaluate(gate.config("gate-damaged@1"))
    assert caught.value.exit_code == 2
