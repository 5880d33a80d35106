"""Betting on coins: evidence that may be looked at after each of them, and acted on at any time.

Two conversations that one person rated, one with the candidate and one with the champion, are a coin where
exactly one of the two was liked. Where both versions are equally good it is fair, however much that person
likes, and whatever the others do. A gambler who begins with 1 and bets on the candidate against fair coins
has 1 on average after each toss, and ever has 1/alpha with probability alpha at most (Ville 1939, "Etude
critique de la notion de collectif"), so that looking often costs nothing. What is bet is a likelihood ratio,
mixed over what the coin may be instead (Robbins 1970, "Statistical methods related to the law of the iterated
logarithm", doi:10.1214/aoms/1177696786). On e-values for two streams of yes and no: Turner, Ly and Grunwald
2024, "Generic E-variables for exact sequential k-sample tests that allow for optional stopping"
(doi:10.1016/j.jspi.2023.106116); on betting: Waudby-Smith and Ramdas, "Estimating means of bounded random
variables by betting" (arXiv:2010.09686).
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

CHANCES = (0.6, 0.7, 0.9)
"""What a coin may be instead of fair: odds of 1.5, 2.3 and nine to one."""
WEIGHTS = (0.1, 0.8, 0.1)
"""How the first stake is shared out over ``CHANCES``; chosen by simulation (docs/figures.md)."""


def log_evidence(wins: npt.ArrayLike, losses: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The natural logarithm of the e-value that coins fall ``wins`` rather than ``losses``.

    It depends on how often each came, not on the order. Against coins that fall ``wins`` half of the time or
    less, its exponential is a supermartingale that begins at 1. Arrays give an array of their shape.
    """
    won, lost = np.asarray(wins, float), np.asarray(losses, float)
    bets = [
        np.log(weight) + won * np.log(2 * chance) + lost * np.log(2 - 2 * chance)
        for chance, weight in zip(CHANCES, WEIGHTS, strict=True)
    ]
    return np.asarray(np.logaddexp.reduce(bets, axis=0))


def first_crossing(coins: Iterable[bool], threshold: float) -> int | None:
    """Which toss (from 0) first brings the e-value that coins fall True to ``threshold``; None if none does.

    The first crossing decides, not the latest value: so the decision is the same whenever somebody looks.
    """
    won = np.asarray(list(coins), bool)
    tosses = np.arange(1, len(won) + 1)
    wins = np.cumsum(won)
    crossed = np.flatnonzero(log_evidence(wins, tosses - wins) >= np.log(threshold))
    return int(crossed[0]) if len(crossed) else None
