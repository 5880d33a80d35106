"""The gate's statistics on numbers whose truth is known."""

import numpy as np
import pytest

from jobs.evaluate.gate import Finding, Rules, bound, combine, judge_held_out, judge_regression
from jobs.evaluate.scores import Losses

RULES = Rules(margin=0.05, minimum_conversations=12, resamples=1_000, seed=0)


def losses(
    base: list[float], adapter: list[float], keys: list[str] | None = None, tokens: int = 10
) -> Losses:
    keys = keys or [f"conversation-{index}" for index in range(len(base))]
    counts = np.full(len(base), float(tokens))
    return Losses(keys, counts, np.array(base) * tokens, np.array(adapter) * tokens)


def noisy(count: int, mean: float, spread: float, seed: int = 1) -> list[float]:
    return list(np.random.default_rng(seed).normal(mean, spread, count))


def test_a_clear_improvement_passes_and_says_by_how_much() -> None:
    finding = judge_held_out(losses([3.2] * 28, noisy(28, 1.0, 0.3)), RULES, against="the base")
    assert finding.state == "passed"
    assert 1.9 < finding.figures["held_out_improvement_lower"] < finding.figures["held_out_improvement"]
    assert finding.words.startswith(
        "Held-out loss fell from 3.20 to 0.97 nats a token against the base (95 % sure of at least 2.1"
    )
    assert finding.words.endswith("on 28 conversations")


def test_a_no_op_adapter_is_refused() -> None:
    same = noisy(28, 3.0, 0.5)
    finding = judge_held_out(losses(same, same), RULES, against="the base")
    assert finding.state == "refused"
    assert finding.figures["held_out_improvement_lower"] == 0


def test_an_improvement_within_the_noise_is_refused() -> None:
    before = noisy(28, 3.0, 0.5)
    after = [loss + change for loss, change in zip(before, noisy(28, -0.01, 0.3, seed=2), strict=True)]
    assert judge_held_out(losses(before, after), RULES, against="the base").state == "refused"


def test_a_worse_adapter_is_refused_in_words() -> None:
    finding = judge_held_out(losses([2.0] * 20, noisy(20, 2.5, 0.1)), RULES, against="the base")
    assert finding.state == "refused"
    assert "rose from 2.00 to 2.5" in finding.words


def test_rows_of_one_conversation_count_as_one() -> None:
    keys = [f"conversation-{index % 11}" for index in range(110)]
    finding = judge_held_out(losses([3.0] * 110, noisy(110, 1.0, 0.1), keys), RULES, against="the base")
    assert finding.state == "insufficient data"
    assert "on 11 conversations, fewer than the 12 that a verdict needs" in finding.words


def test_repeating_each_row_makes_nobody_surer() -> None:
    keys = [f"conversation-{index}" for index in range(20)]
    after = noisy(20, 2.9, 0.3)
    once = judge_held_out(losses([3.0] * 20, after, keys), RULES, against="the base")
    often = judge_held_out(losses([3.0] * 200, after * 10, keys * 10), RULES, against="the base")
    lower = "held_out_improvement_lower"
    assert often.figures[lower] == pytest.approx(once.figures[lower])


def test_long_conversations_weigh_by_their_tokens() -> None:
    tokens = np.array([10.0, 1000.0])
    found = Losses(["a", "b"], tokens, np.array([3.0, 1.0]) * tokens, np.array([1.0, 1.0]) * tokens)
    assert found.mean(found.reference) == pytest.approx((30 + 1000) / 1010)


def test_a_forgetful_adapter_is_refused_by_the_regression_set() -> None:
    finding = judge_regression(losses([2.0] * 200, noisy(200, 2.2, 0.2)), RULES)
    assert finding.state == "refused"
    assert "not under the margin of 0.05" in finding.words


def test_a_loss_under_the_margin_passes_only_when_it_is_sure() -> None:
    surely = judge_regression(losses([2.0] * 200, noisy(200, 2.012, 0.1)), RULES)
    assert surely.state == "passed"
    assert surely.figures["regression_change_upper"] < 0.05
    perhaps = judge_regression(losses([2.0] * 20, noisy(20, 2.012, 0.5)), RULES)
    assert perhaps.state == "refused"


def test_the_bound_is_the_same_every_time() -> None:
    change, tokens, keys = np.array(noisy(30, 0.5, 1)), np.full(30, 1.0), [str(index) for index in range(30)]
    first, second = (bound("lower", change, tokens, keys, RULES) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("skewed", [False, True])
def test_the_lower_bound_is_below_the_truth_in_95_of_100_samples(skewed: bool) -> None:
    """With 24 conversations of unequal length, within what 400 samples can tell (three standard errors)."""
    random = np.random.default_rng(5)
    keys = [str(index) for index in range(24)]
    covered = 0
    for _ in range(400):
        tokens = random.integers(5, 60, 24).astype(float)
        noise = random.exponential(1.0, 24) - 1 if skewed else random.normal(0, 1, 24)
        covered += bound("lower", (0.5 + noise) * tokens, tokens, keys, RULES) <= 0.5
    assert 0.917 <= covered / 400 <= 0.983


def test_one_refusal_refuses_and_a_gap_leaves_it_to_a_person() -> None:
    passed, refused = Finding("passed", ""), Finding("refused", "")
    assert combine([passed, passed]) == "passed"
    assert combine([passed, Finding("insufficient data", "")]) == "insufficient data"
    assert combine([Finding("insufficient data", ""), refused]) == "refused"


def test_without_held_out_conversations_a_person_decides() -> None:
    assert judge_held_out(None, RULES, against="the base").state == "insufficient data"
