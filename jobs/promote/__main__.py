"""Look once at every bot's trial, and begin it, decide it, ask a person or wait: to be run again and again.

    python -m jobs.promote --bot support-bot

The newest version that passed the gate is tried beside what is served: half of the conversations get it. It
is promoted when enough comparisons speak for it, and its trial ends when they speak against it, or when it
fails more often, is slower or rambles (``jobs.promote.rule``). Each decision names the bot's generation that
it was made on, so that of two at once one wins and the other is told. A version that a person put on
trial by force, for the gate did not pass it, is tried like any other; whether everybody gets it, the person
is asked.

Exit codes: 0 looked, whatever was decided; 2 configuration, or control refused something, and the other bots
were looked at all the same; 1 control is away, worth a retry.
"""

import sys
from collections.abc import Sequence
from logging import WARNING, getLogger

from common import errors, logging
from common.control_client import ControlClient, ControlRefused
from common.evidence import Evidence
from common.job_config import parse
from jobs.each_bot import each_bot
from jobs.promote.config import PromoteConfig
from jobs.promote.decide import Decision, decide

BOTS = "/onggi/v1/bots"
CONFLICT = 409


def main() -> None:
    """Look at the bots that the flags, the environment or the file name, and print a sentence for each."""
    config = parse(PromoteConfig, sys.argv[1:], prog="python -m jobs.promote")
    logging.configure("promote", stream=sys.stderr)
    getLogger("httpx").setLevel(WARNING)
    control = ControlClient(config.control_url, config.control_token.get_secret_value())
    look_at_all(control, [config.bot] if config.bot else control.bots(), config)


def look_at_all(control: ControlClient, bots: Sequence[str], config: PromoteConfig) -> None:
    """Look at each bot and print a sentence for it; raises as ``each_bot`` does."""
    each_bot(bots, lambda bot: look(control, bot, config))


def look(control: ControlClient, bot: str, config: PromoteConfig) -> str:
    """Decide on one bot, and carry it out; what happened, in a sentence.

    Raises:
        ControlUnavailable: control does not answer.
        ControlRefused: it said no, but not because another decision came first.
    """
    evidence = Evidence.model_validate(control.get(f"{BOTS}/{bot}/evidence"))
    decision = decide(evidence, config)
    if decision.what == "wait" or config.dry_run:
        return decision.sentence
    try:
        carry_out(control, evidence, decision, config)
    except ControlRefused as error:
        if error.status != CONFLICT:
            raise
        return _came_first(control, evidence, decision) or f"{decision.sentence}: not done, {error}"
    return decision.sentence


def _came_first(control: ControlClient, evidence: Evidence, decision: Decision) -> str | None:
    """What was decided on the generation that the evidence is of; None where that was refused instead.

    It is this very decision where control's answer to it was lost, or another of these jobs looked too.
    """
    made = control.get(f"{BOTS}/{evidence.bot}/decisions")["data"]
    first = next((one for one in made if one["generation"] == evidence.generation + 1), None)
    if first is None:
        return None
    if first["reason"] == decision.sentence:
        return f"{decision.sentence} (decided already, as generation {first['generation']})"
    said = f": {first['reason']}" if first["reason"] else ""
    return (
        f"{decision.sentence}: not done, another decision came first, generation {first['generation']} "
        f"({first['action']} by {first['author']}{said})"
    )


def carry_out(control: ControlClient, evidence: Evidence, decision: Decision, config: PromoteConfig) -> None:
    """Tell control, on the generation that the evidence is of; raises as ``ControlClient.post`` does."""
    said = {
        "generation": evidence.generation,
        "reason": decision.sentence,
        "figures": decision.figures or None,
    }
    candidate = {**said, "version": decision.version}
    place = f"{BOTS}/{evidence.bot}"
    if decision.what == "promote":
        control.post(f"{place}/promote", candidate)
    elif decision.what == "ask":
        control.post(f"{place}/inconclusive", said)
    elif decision.what == "end":
        control.post(f"{place}/candidate", {**said, "version": None})
    elif decision.what == "begin" and config.shadow:
        control.post(f"{place}/candidate", {**candidate, "shadow": True})
    else:
        control.post(f"{place}/candidate", {**candidate, "share": config.share})


if __name__ == "__main__":
    errors.run(main)
