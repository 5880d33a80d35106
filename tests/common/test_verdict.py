import pytest
from pydantic import ValidationError

from common.verdict import Verdict


def test_a_verdict_survives_the_way_to_control() -> None:
    verdict = Verdict(state="passed", sentence="Better.", figures={"held_out_loss_base": 3.2}, note="# x")
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict


@pytest.mark.parametrize(
    "values",
    [
        {"state": "approved", "sentence": "x"},
        {"state": "passed", "sentence": ""},
        {"state": "passed", "sentence": "x", "figures": {"loss": float("nan")}},
        {"state": "passed", "sentence": "x", "score": 1},
    ],
)
def test_what_is_no_verdict_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Verdict.model_validate(values)


def test_only_what_the_figures_cannot_decide_needs_a_person() -> None:
    states = ("passed", "refused", "not judged", "insufficient data")
    asked = [state for state in states if Verdict(state=state, sentence="x").needs_a_person]
    assert asked == ["not judged", "insufficient data"]
