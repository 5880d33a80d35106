"""What jobs of the loop do for one bot after the other."""

import sys
from collections.abc import Callable, Sequence

from common.errors import UserError


def each_bot(bots: Sequence[str], look: Callable[[str], str]) -> dict[str, UserError]:
    """Look at each bot and print what came of it; by bot what went wrong, which is no other bot's."""
    wrong: dict[str, UserError] = {}
    for bot in bots:
        try:
            print(f"{bot}: {look(bot)}", flush=True)
        except UserError as error:
            print(f"{bot}: {error}", file=sys.stderr, flush=True)
            wrong[bot] = error
    return wrong
