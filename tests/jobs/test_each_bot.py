"""How a job that looks at one bot after the other ends."""

import pytest

from common.errors import EXIT_AWAY, EXIT_CONFIGURATION, UserError
from common.registry import RegistryRefused, RegistryUnavailable
from jobs.each_bot import each_bot


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (RegistryUnavailable("MLflow does not answer"), EXIT_AWAY),
        (RegistryRefused("MLflow says no"), EXIT_CONFIGURATION),
        (UserError("no such bot"), EXIT_CONFIGURATION),
    ],
)
def test_it_looks_at_all_and_ends_as_what_went_wrong_does(
    wrong: UserError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def look(bot: str) -> str:
        if bot == "first-bot":
            raise wrong
        return "waits"

    with pytest.raises(UserError, match="first-bot could not be looked at: see above") as ended:
        each_bot(["first-bot", "second-bot"], look)
    assert ended.value.exit_code == code
    said = capsys.readouterr()
    assert said.out == "second-bot: waits\n"
    assert said.err == f"first-bot: {wrong}\n"
