"""What jobs of the loop do for one bot after the other."""

import sys
from collections.abc import Callable, Sequence

from common.errors import AwayError, UserError


def each_bot(bots: Sequence[str], look: Callable[[str], str]) -> None:
    """Look at each bot and print what came of it; what goes wrong with one is no other's.

    Raises:
        AwayError: something did not answer about one of them, at the end.
        UserError: something was refused about one of them, at the end.
    """
    wrong: dict[str, UserError] = {}
    for bot in bots:
        try:
            print(f"{bot}: {look(bot)}", flush=True)
        except UserError as error:
            print(f"{bot}: {error}", file=sys.stderr, flush=True)
            wrong[bot] = error
    if wrong:
        sentence = f"{', '.join(wrong)} could not be looked at: see above"
        away = any(isinstance(error, AwayError) for error in wrong.values())
        raise AwayError(sentence) if away else UserError(sentence)
