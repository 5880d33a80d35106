"""What is asked of the simulation, the answers kept in the cache, and the tables made of them."""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path

from jobs.promote.rule import HARM_AT, PROMOTE_AT
from tests.jobs.promote.simulation import Outcome, World, simulate

ROOT = Path(__file__).resolve().parents[3]
FIGURES = ROOT / "docs" / "figures.md"
BEGIN, END = "<!-- jobs.promote: written by make soak -->", "<!-- jobs.promote: end -->"
CODE = ("jobs/promote/sequential.py", "tests/jobs/promote/simulation.py")
CHUNK = 2500
"""Runs at a time, for memory."""

APPROVALS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
PEOPLE = (5, 10, 20)
DRIFTS = (0.0, 0.2, -0.2)


@dataclass(frozen=True)
class Question:
    """How often is what decided in ``world``, by each of ``stops`` ratings an arm?"""

    world: World
    runs: int
    stops: tuple[int, ...]
    must_hold: bool = True

    def __str__(self) -> str:
        usual = World(self.world.approval)
        told = {name: value for name, value in asdict(self.world).items() if value != getattr(usual, name)}
        return "-".join([f"{self.world.approval:g}", *(f"{name}={value}" for name, value in told.items())])


def _false_promotion() -> Iterable[Question]:
    usual = [
        World(approval, people=people, drift=drift)
        for approval in APPROVALS
        for people in PEOPLE
        for drift in (DRIFTS if people != 10 else (0.0,))
    ]
    odd = [
        replace(World(0.7, people=people), **change)
        for people in (5, 20)
        for change in (
            {"grudging": 0.3},
            {"delay": 0.5},
            {"share": 0.1, "drift": 0.2},
            {"share": 0.25, "drift": -0.2},
            {"correlation": 0.6},
        )
    ]
    yield from (Question(world, 10_000, (30, 100, 300, 1000)) for world in usual + odd)
    yield Question(World(0.7, people=None), 5000, (30, 100, 200))


FALSE_PROMOTION = list(_false_promotion())
POWER = [
    Question(
        World(approval, 0.15, people, correlation),
        5000,
        (30, 100, 200, 300),
        not correlation and approval > 0.6,
    )
    for approval in (0.5, 0.6, 0.7, 0.77, 0.84)
    for people in PEOPLE
    for correlation in (0.0, 0.2)
]
HARM = [
    Question(World(approval, -0.2, people, correlation), 5000, (30, 100, 200))
    for approval in APPROVALS
    for people in PEOPLE
    for correlation in (0.0, 0.2)
]


def upper_bound(count: int, runs: int) -> float:
    """The one-sided 95 % upper bound of a share, by Wilson's score."""
    z, share = 1.6449, count / runs
    spread = z * math.sqrt(share * (1 - share) / runs + z * z / (4 * runs * runs))
    return (share + z * z / (2 * runs) + spread) / (1 + z * z / runs)


def answer(question: Question) -> dict[int, Outcome]:
    """The counts by ratings an arm: simulated now, or by this same code before."""
    kept = _kept()
    if str(question) not in kept:
        counts = _simulated(question)
        kept = _kept() | {str(question): {stop: astuple(outcome) for stop, outcome in counts.items()}}
        path = _path()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".new").write_text(json.dumps(kept))
        path.with_suffix(".new").replace(path)
    return {int(stop): Outcome(*counts) for stop, counts in kept[str(question)].items()}


def _simulated(question: Question) -> dict[int, Outcome]:
    seed = int.from_bytes(hashlib.sha256(str(question).encode()).digest()[:4], "big")
    parts = [
        simulate(question.world, min(CHUNK, question.runs - begun), question.stops, seed + begun)
        for begun in range(0, question.runs, CHUNK)
    ]
    return {
        stop: Outcome(sum(part[stop].promoted for part in parts), sum(part[stop].ended for part in parts))
        for stop in question.stops
    }


def _path() -> Path:
    cache = Path(os.environ.get("ONGGI_CACHE") or Path.home() / ".cache" / "onggi")
    code = hashlib.sha256(f"{PROMOTE_AT} {HARM_AT}".encode())
    for name in CODE:
        code.update((ROOT / name).read_bytes())
    return cache / "soak" / f"promotion-{code.hexdigest()[:12]}.json"


def _kept() -> dict[str, dict[str, list[int]]]:
    path = _path()
    return dict(json.loads(path.read_text())) if path.exists() else {}


def write() -> None:
    """Write the tables into docs/figures.md, between their marks."""
    before, _, rest = FIGURES.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    FIGURES.write_text(f"{before}{BEGIN}\n{_tables()}\n{END}{after}")


def _tables() -> str:
    return "\n\n".join([_false_table(), _power_table(), _harm_table()])


def _false_table() -> str:
    stops = (30, 100, 300, 1000)
    rows = []
    for approval in APPROVALS:
        asked = [one for one in FALSE_PROMOTION if one.world.approval == approval]
        rows.append([f"{approval:g}", *(_worst(asked, stop) for stop in stops)])
    heads = ["approval of both", *(f"{stop} ratings an arm" for stop in stops)]
    title = "Promoted though no better, in the worst case, and its upper 95 % bound (must be 5.5 % at most):"
    return f"{title}\n\n{_table(heads, rows)}"


def _worst(asked: Sequence[Question], stop: int) -> str:
    cells = [(answer(one)[stop].promoted, one.runs) for one in asked if stop in one.stops]
    count, runs = max(cells, key=lambda cell: upper_bound(*cell))
    return f"{count / runs:.1%} ({upper_bound(count, runs):.1%})"


def _power_table() -> str:
    title = "Promoted when 15 points better (must be 80 % by 200 ratings an arm, independent, 0.70 to 0.84):"
    return f"{title}\n\n{_by_people(POWER, (100, 200), lambda outcome: outcome.promoted)}"


def _harm_table() -> str:
    title = "Trial ended when 20 points worse (must be 80 % by 100 ratings an arm):"
    return f"{title}\n\n{_by_people(HARM, (30, 100), lambda outcome: outcome.ended)}"


def _by_people(asked: Sequence[Question], stops: tuple[int, int], of: Callable[[Outcome], int]) -> str:
    """Approval by people and correlation: the share at either of two stops."""
    columns = [(people, correlation) for correlation in (0.0, 0.2) for people in PEOPLE]
    found = {(one.world.approval, one.world.people, one.world.correlation): one for one in asked}
    rows = []
    for approval in sorted({one.world.approval for one in asked}):
        cells = [found[(approval, *column)] for column in columns]
        shares = [[f"{of(answer(one)[stop]) / one.runs:.0%}" for stop in stops] for one in cells]
        rows.append([f"{approval:g}", *(" / ".join(share) for share in shares)])
    words = {0.0: "independent", 0.2: "correlated"}
    heads = ["approval", *(f"{people} people, {words[correlation]}" for people, correlation in columns)]
    return f"{_table(heads, rows)}\n\nEach cell: by {stops[0]} / by {stops[1]} ratings an arm."


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in [heads, ["---"] * len(heads), *rows])
