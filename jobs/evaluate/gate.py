"""The gate's rules: what the losses say, each as a finding in words, and the verdict that they make together.

Bounds are one-sided 95 % bootstrap-t bounds of a ratio (nats per token), resampled by conversation, because
the rows of one conversation are not independent. Source: B. Efron and R. Tibshirani, An Introduction to the
Bootstrap (1993): bootstrap-t intervals, section 12.5; with the linearised standard error of a ratio,
W. Cochran, Sampling Techniques (1977), section 2.11. The plain percentile bound is too narrow with a dozen
conversations.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from common.verdict import State
from jobs.evaluate.scores import Losses
from jobs.evaluate.vllm_client import Floats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Finding:
    """What one rule says: its state, its words (a clause that begins a sentence), its figures."""

    state: State
    words: str
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Rules:
    """What the gate asks for; see ``EvaluateConfig`` for each."""

    margin: float
    minimum_conversations: int
    resamples: int
    seed: int


def judge_held_out(losses: Losses | None, rules: Rules, *, against: str) -> Finding:
    """Improvement on what ``against`` names, on the held-out conversations: its lower bound is above 0."""
    if losses is None:
        return Finding("insufficient data", "No held-out conversations were given")
    before, after = losses.mean(losses.reference), losses.mean(losses.adapter)
    conversations = len(set(losses.keys))
    figures = {
        "held_out_loss_served": before,
        "held_out_loss_adapter": after,
        "held_out_improvement": before - after,
        "held_out_conversations": conversations,
        "held_out_rows": len(losses.keys),
        "held_out_tokens": float(losses.tokens.sum()),
    }
    moved = f"Held-out loss {_moved(before, after)} nats a token against {against}"
    if conversations < rules.minimum_conversations:
        words = (
            f"{moved} on {count(conversations, 'conversation')}, fewer than the "
            f"{rules.minimum_conversations} that a verdict needs"
        )
        return Finding("insufficient data", words, figures)
    lower = bound("lower", losses.reference - losses.adapter, losses.tokens, losses.keys, rules)
    figures["held_out_improvement_lower"] = lower
    sure = f"95 % sure of at least {lower:.2f}" if lower > 0 else f"95 % sure only of {lower:+.3f}"
    words = f"{moved} ({sure}) on {count(conversations, 'conversation')}"
    return Finding("passed" if lower > 0 else "refused", words, figures)


def judge_regression(losses: Losses, rules: Rules) -> Finding:
    """Non-inferiority to the base on the regression set: refused unless the upper bound is under the margin.

    To the base, which stays the same: margins over what is served would add up from version to version.
    """
    change = losses.mean(losses.adapter) - losses.mean(losses.reference)
    upper = bound("upper", losses.adapter - losses.reference, losses.tokens, losses.keys, rules)
    figures = {
        "regression_change": change,
        "regression_change_upper": upper,
        "regression_rows": len(losses.keys),
        "regression_margin": rules.margin,
    }
    fine = upper < rules.margin
    side = "under" if fine else "not under"
    words = (
        f"the regression set moved by {change:+.3f} nats a token (95 % sure of at most {upper:+.3f}), "
        f"{side} the margin of {rules.margin:g}"
    )
    return Finding("passed" if fine else "refused", words, figures)


def combine(findings: Sequence[Finding]) -> State:
    """One refusal refuses; else what is missing leaves it to a person; else it has passed."""
    states = {finding.state for finding in findings}
    order: tuple[State, ...] = ("refused", "not judged", "insufficient data")
    return next((state for state in order if state in states), "passed")


def bound(
    side: Literal["lower", "upper"], change: Floats, tokens: Floats, keys: Sequence[str], rules: Rules
) -> float:
    """One-sided 95 % bound of ``change.sum() / tokens.sum()``, by bootstrap-t over conversations.

    Args:
        side: which bound.
        change: nats of each row (n,).
        tokens: supervised tokens of each row (n,).
        keys: each row's conversation (n,); at least two differ.
        rules: ``resamples`` and ``seed`` of the bootstrap, which is deterministic.
    """
    change, tokens = _by_conversation(change, tokens, keys)
    size = len(change)
    mean, error = _ratio(change, tokens)
    drawn = np.random.default_rng(rules.seed).integers(0, size, (rules.resamples, size))
    means, errors = _ratio(change[drawn], tokens[drawn])
    studentised = np.divide(means - mean, errors, out=np.zeros_like(means), where=errors > 0)
    quantile = np.quantile(studentised, CONFIDENCE if side == "lower" else 1 - CONFIDENCE)
    return float(mean - quantile * error)


def _by_conversation(change: Floats, tokens: Floats, keys: Sequence[str]) -> tuple[Floats, Floats]:
    _, groups = np.unique(np.array(keys), return_inverse=True)
    summed: list[Floats] = [np.bincount(groups, weights).astype(np.float64) for weights in (change, tokens)]
    return summed[0], summed[1]


def _ratio(change: Floats, tokens: Floats) -> tuple[Floats, Floats]:
    """Ratio of sums and its standard error over the last axis, for one sample or many at once."""
    size = change.shape[-1]
    total = tokens.sum(-1)
    mean = change.sum(-1) / total
    residuals = change - mean[..., None] * tokens
    return mean, np.sqrt((residuals**2).sum(-1) * size / (size - 1)) / total


def _moved(before: float, after: float) -> str:
    verb = "fell" if after < before else "rose"
    return f"{verb} from {before:.2f} to {after:.2f}"


def count(number: int, thing: str, several: str = "") -> str:
    """``1 token``, ``2 tokens``; ``several`` is the plural where it has no s."""
    return f"{number} {thing}" if number == 1 else f"{number} {several or thing + 's'}"
