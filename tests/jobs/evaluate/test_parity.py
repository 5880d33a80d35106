"""The rule for log-probabilities, and that the trainer's side is the trainer's."""

import numpy as np
import pytest

from jobs.evaluate.parity import BOUND, SHARE, judge_parity

BASE = np.full(100, -3.0)
TRAINED = np.full(100, -1.0)


def test_rounding_passes() -> None:
    noise = np.random.default_rng(0).normal(0, 0.02, 100)
    finding = judge_parity(TRAINED, TRAINED + noise, BASE, rows=8)
    assert finding.state == "passed"
    assert finding.figures["parity_effect"] == pytest.approx(2.0)


def test_an_unloaded_adapter_fails_however_small_its_effect() -> None:
    for effect in (2.0, 0.04, 0.001):
        assert judge_parity(BASE + effect, BASE, BASE, rows=8).state == "refused"


def test_a_difference_over_the_bound_fails_however_large_the_effect() -> None:
    assert judge_parity(TRAINED, TRAINED + BOUND * 1.1, BASE - 10, rows=8).state == "refused"


def test_a_difference_that_is_a_large_part_of_the_effect_fails() -> None:
    finding = judge_parity(BASE + 0.1, BASE + 0.1 + 0.1 * SHARE * 1.1, BASE, rows=8)
    assert finding.state == "refused"
    assert "vLLM does not answer as this adapter does" in finding.words


def test_an_adapter_without_effect_cannot_be_told_from_none() -> None:
    assert judge_parity(BASE, BASE, BASE, rows=8).state == "refused"
