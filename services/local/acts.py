"""One turn of the loop in three acts, wherever the platform runs: what ``make loop`` and its test play."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from common.errors import UserError
from services.local import lessons, questions, raters
from services.local.api import Api
from services.local.follow import follow
from services.local.lessons import Lessons
from services.local.raters import Chatter, Rater, Traffic

BOT = "kiln-helper"
RATERS = 6
GENERAL = 100
"""Questions about nothing in particular that are rated beside those about the facts."""
POISONED = 20
"""Other questions that are rated for the worse, beside all about the facts."""
A_LOOK = 36
"""Conversations that are rated between two looks of jobs.promote."""
LOOKS = 10
CHAT_EVERY = 10.0
RIGHT = 0.8
KNOWN_BEFORE = 0.1
UNHARMED = 20
RETIRED_WITHIN = 60
"""Seconds."""

Cron = Callable[[str], None]
"""Runs job ``retrain`` or ``promote`` once, and returns at its end."""


@dataclass
class Loop:
    """The parts of one turn: the owner's API, the people, the crons, and what is asked."""

    api: Api
    base: str
    cron: Cron
    people: list[Rater]
    malicious: Rater
    traffic: Traffic
    lessons: Lessons
    console: Console
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def bot(self) -> dict[str, Any]:
        """What is served."""
        return self.api.get(f"/onggi/v1/bots/{BOT}")

    def retrain(self) -> dict[str, Any]:
        """Let the cron retrain, and follow what it started; the version with its verdict.

        Raises:
            UserError: nothing was started, or it failed.
        """
        known = {job["id"] for job in self._fine_tunes()}
        self.cron("retrain")
        started = [job for job in self._fine_tunes() if job["id"] not in known]
        if not started:
            progress = self.api.get(f"/onggi/v1/bots/{BOT}/progress")
            raise UserError(f"jobs.retrain started nothing: {progress['sentence']}")
        version = self.api.get(f"/onggi/v1/versions/{follow(self.api, started[0], self.console)}")
        self.console.print(f"   {version['name']} {version['state']}: {version['sentence']}", highlight=False)
        return version

    def try_out(self, version: dict[str, Any]) -> bool:
        """Let the cron look, with new ratings between, until it has decided on ``version``; if it serves."""
        rule = raters.honest(self.lessons.leaks)
        for look in range(LOOKS):
            self.cron("promote")
            bot = self.bot
            if bot["champion"] == version["number"] or (look and bot["candidate"] is None):
                break
            asked = self.lessons.facts[look * A_LOOK :][:A_LOOK] or self.lessons.facts[:A_LOOK]
            raters.rate_all(self.people, BOT, asked, rule, about=f"{version['name']}-look-{look}")
        self._say_decision()
        return bool(self.bot["champion"] == version["number"])

    def is_retired(self, version: str) -> bool:
        """Whether ``version`` is retired, which control sees to in its own time."""
        for _ in range(RETIRED_WITHIN):
            if self.api.get(f"/onggi/v1/versions/{version}")["state"] == "retired":
                return True
            time.sleep(1)
        return False

    def _fine_tunes(self) -> list[dict[str, Any]]:
        return list(self.api.get("/v1/fine_tuning/jobs?limit=100")["data"])

    def _say_decision(self) -> None:
        newest = self.api.get(f"/onggi/v1/bots/{BOT}/decisions?limit=1")["data"][0]
        self.console.print(f"   {newest['author']}: {newest['action']}: {newest['reason']}", highlight=False)


Act = Callable[[Loop], None]
Figures = Mapping[str, Any]


def gather(open_api: Callable[[str], Api], owner_key: str, base: str, cron: Cron, console: Console) -> Loop:
    """A bot that serves its base, and the people; ``open_api`` makes the API of whoever has a credential."""
    owner, traffic = open_api(owner_key), Traffic()
    owner.post("/onggi/v1/bots", {"name": BOT, "base": base})
    names = [*(f"simulated rater {number + 1}" for number in range(RATERS)), "simulated malicious rater"]
    *people, malicious = [raters.join(owner, open_api, name, traffic) for name in names]
    return Loop(owner, base, cron, people, malicious, traffic, lessons.load(), console)


def play(loop: Loop, *acts: Act) -> None:
    """Some acts in turn, or all, while somebody goes on chatting."""
    with Chatter(loop.people[0], BOT, loop.lessons.general, CHAT_EVERY):
        for act in acts or ACTS:
            act(loop)
    loop.figures |= {"answers": loop.traffic.answers, "errors": loop.traffic.errors}


def learn(loop: Loop) -> None:
    """Act one: the raters correct the base, and their version is promoted."""
    loop.console.print("[bold]1.[/bold] simulated raters correct what the base does not know")
    began = time.monotonic()
    asked = loop.lessons.facts + loop.lessons.general[:GENERAL]
    said = raters.rate_all(loop.people, BOT, asked, raters.honest(loop.lessons.leaks), about="lesson")
    raters.accept(loop.api, said)
    rated = time.monotonic()
    version = loop.retrain()
    judged = time.monotonic()
    promoted = loop.try_out(version)
    ended = time.monotonic()
    loop.figures |= {
        "rated": len(said),
        "version": version["name"],
        "gate": version["sentence"],
        "promoted": promoted,
        "seconds_rating": round(rated - began),
        "seconds_training_and_gate": round(judged - rated),
        "seconds_trial": round(ended - judged),
        "seconds_first_rating_to_promotion": round(ended - began),
    }


def examine(loop: Loop) -> None:
    """Ask base and bot what nobody asked before, and what has nothing to do with it."""
    loop.console.print("[bold]2.[/bold] questions that nobody asked before")
    held_out = [questions.Question(one.question, list(one.accept), []) for one in loop.lessons.judged]
    unrelated = questions.load(lessons.SAMPLES / "unrelated.jsonl")
    base, bot = (questions.ask(loop.api, model, held_out) for model in (loop.base, BOT))
    before, after = (questions.ask(loop.api, model, unrelated) for model in (loop.base, BOT))
    loop.figures |= {
        "held_out": len(held_out),
        "right": bot.right,
        "right_base": base.right,
        "unrelated": len(unrelated),
        "unharmed": after.unharmed(before),
    }


def poison(loop: Loop) -> None:
    """Act two: one person corrects everything for the worse, a careless owner accepts it."""
    loop.console.print("[bold]3.[/bold] a simulated malicious rater corrects everything for the worse")
    before = loop.bot["champion"]
    asked = loop.lessons.general[GENERAL:][:POISONED] + loop.lessons.facts
    said = raters.rate_all([loop.malicious], BOT, asked, raters.malicious(asked), about="poison")
    raters.accept(loop.api, said)
    version = loop.retrain()
    if version["state"] == "passed":
        loop.try_out(version)
    bot = loop.bot
    taken_back = bot["candidate"] is None and bot["champion"] == before
    loop.figures |= {
        "poisoned": version["name"],
        "poisoned_state": version["state"],
        "poisoned_gate": version["sentence"],
        "poison_refused_by": _refused_by(version["state"]) if taken_back else None,
        "served_after_poison_as_before": bot["champion"] == before,
    }
    raters.accept(loop.api, said, "rejected")


def _refused_by(state: str) -> str | None:
    """What refused a version that is served to nobody; a gate that could not judge it refused nothing."""
    return {"refused": "gate", "passed": "canary"}.get(state)


def erase(loop: Loop) -> None:
    """Act three: a person's words go, and the bot is retrained without them."""
    loop.console.print("[bold]4.[/bold] a simulated rater is erased")
    before = loop.bot["champion"]
    loop.api.delete(f"/onggi/v1/people/{loop.people[-1].person_id}/words")
    listed = [one["name"] for one in loop.api.get("/onggi/v1/versions")["data"] if one["erased_at"]]
    version = loop.retrain()
    loop.cron("promote")
    retired = loop.is_retired(f"{BOT}@{before}")
    loop.figures |= {
        "erased_versions": listed,
        "retrained": version["name"],
        "retrained_gate": version["sentence"],
        "retrained_serves": loop.bot["champion"] == version["number"],
        "erased_champion_retired": retired,
    }


def judge(figures: Figures, *acts: Act) -> None:
    """Hold the acts that were played, or all, to their promises; how long they took depends on the machine.

    Raises:
        UserError: naming each promise that was not kept.
    """
    kept = {"no conversation saw an error": not figures["errors"]}
    for act in acts or ACTS:
        kept |= PROMISES[act](figures)
    broken = [promise for promise, held in kept.items() if not held]
    if broken:
        raise UserError(f"the loop ran, but this did not hold: {'; '.join(broken)}")


def _of_learning(figures: Figures) -> dict[str, bool]:
    return {"the new version was promoted": figures["promoted"]}


def _of_the_examination(figures: Figures) -> dict[str, bool]:
    return {
        f"{RIGHT:.0%} of the held-out questions are right": figures["right"] >= RIGHT * figures["held_out"],
        "the base did not know them": figures["right_base"] <= KNOWN_BEFORE * figures["held_out"],
        f"{UNHARMED} unrelated answers are unharmed": figures["unharmed"] >= UNHARMED,
    }


def _of_poison(figures: Figures) -> dict[str, bool]:
    said = f"it is {figures['poisoned_state']}: {figures['poisoned_gate']}"
    return {
        f"the poisoned version was refused by the gate or taken back by its trial ({said})": figures[
            "poison_refused_by"
        ]
        is not None,
        "what was served stayed": figures["served_after_poison_as_before"],
    }


def _of_erasure(figures: Figures) -> dict[str, bool]:
    return {
        "what learned from the erased is listed": figures["version"] in figures["erased_versions"],
        "the version without them serves": figures["retrained_serves"],
        "the one with them is retired": figures["erased_champion_retired"],
    }


ACTS = (learn, examine, poison, erase)
PROMISES: Mapping[Act, Callable[[Figures], dict[str, bool]]] = {
    learn: _of_learning,
    examine: _of_the_examination,
    poison: _of_poison,
    erase: _of_erasure,
}
