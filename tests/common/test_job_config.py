from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field
from pydantic_settings import CliPositionalArg, SettingsConfigDict

from common.errors import UserError
from common.job_config import Environment, JobConfig, parse


class BakeConfig(JobConfig):
    """Bake bread."""

    model_config = SettingsConfigDict(env_prefix="BAKE_")

    input: CliPositionalArg[Path] = Field(description="what to bake")
    oven_heat: float = Field(0.5, le=1, description="share of the oven's power")
    form: Literal["loaf", "roll"] = "loaf"
    force: bool = False
    steps: int | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    store_url: Annotated[str, Environment("STORE_URL")] = "./store"


def bake(*argv: str) -> BakeConfig:
    return parse(BakeConfig, argv, prog="bake")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text("input: dough\noven_heat: 0.1\nform: roll\nsteps: 3\n")
    return path


def test_flags_win_over_the_environment_which_wins_over_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAKE_OVEN_HEAT", "0.2")
    monkeypatch.setenv("BAKE_STEPS", "4")
    config = bake("--config", str(file), "--steps", "5")
    assert (config.form, config.oven_heat, config.steps) == ("roll", 0.2, 5)


def test_a_positional_argument_may_come_from_the_file_and_is_replaced_by_the_command_line(file: Path) -> None:
    assert bake("--config", str(file)).input == Path("dough")
    assert bake("rye", "--config", str(file)).input == Path("rye")


def test_flags_are_accepted_in_kebab_and_in_snake_case() -> None:
    assert bake("x", "--oven-heat", "0.3") == bake("x", "--oven_heat=0.3")


def test_values_keep_their_underscores_and_dashes() -> None:
    assert bake("a_b-c", "--store_url=s3://a_b").store_url == "s3://a_b"
    assert bake("a_b-c").input == Path("a_b-c")


def test_booleans_and_mappings_are_flags() -> None:
    config = bake("x", "--force", "--labels", "team=one", "--labels", "kind=rye")
    assert config.force
    assert config.labels == {"team": "one", "kind": "rye"}


def test_a_shared_variable_fills_its_field_and_the_jobs_own_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_URL", "s3://shared")
    assert bake("x").store_url == "s3://shared"
    monkeypatch.setenv("BAKE_STORE_URL", "s3://own")
    assert bake("x").store_url == "s3://own"


def test_made_directly_it_does_not_read_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAKE_OVEN_HEAT", "0.2")
    assert BakeConfig(input=Path("x")).oven_heat == 0.5


def test_an_unknown_key_in_the_file_names_file_and_key_and_the_nearest_known(file: Path) -> None:
    file.write_text("input: x\noven_haet: 0.1\n")
    with pytest.raises(UserError, match=r"job\.yaml: oven_haet is not a known key: did you mean oven_heat\?"):
        bake("--config", str(file))


def test_an_unknown_variable_with_the_prefix_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAKE_OVN_HEAT", "0.1")
    with pytest.raises(UserError, match=r"environment \(BAKE_\.\.\.\): ovn_heat is not a known key"):
        bake("x")


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["x", "--heat", "1"], "unrecognized arguments: --heat 1: see bake --help"),
        (["x", "--oven", "1"], "unrecognized arguments: --oven 1"),
        (["x", "y"], "unrecognized arguments: y"),
        (["x", "--steps"], "argument --steps: expected one argument"),
        ([], "bake: input is missing: set it"),
        (["x", "--oven-heat", "2"], "flags: oven_heat = '2': input should be less than or equal to 1"),
        (["x", "--form", "cake"], "flags: form = 'cake': input should be 'loaf' or 'roll'"),
        (["x", "--config"], "bake: argument --config: expected one argument"),
        (["x", "--config", "/nowhere.yaml"], "/nowhere.yaml cannot be read (No such file or directory)"),
    ],
)
def test_a_wrong_command_line_is_one_sentence(argv: list[str], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        bake(*argv)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"- a\n", "must hold keys and values (key: value), not a list"),
        (b"a: [1\n", "is not YAML"),
        (b"a: \xff\n", "is not YAML"),
        (b"input: x\nsteps: many\n", "steps = 'many': input should be a valid integer"),
        (b"1: x\n", "1 is not a known key"),
    ],
)
def test_a_wrong_file_is_one_sentence_naming_it(file: Path, content: bytes, sentence: str) -> None:
    file.write_bytes(content)
    with pytest.raises(UserError) as caught:
        bake("--config", str(file))
    assert sentence in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_wrong_variable_says_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAKE_STEPS", "many")
    with pytest.raises(UserError, match=r"^environment: steps = 'many'"):
        bake("x")
    monkeypatch.setenv("BAKE_LABELS", "{")
    with pytest.raises(UserError, match="labels"):
        bake("x")


def test_an_empty_variable_and_an_empty_file_say_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("")
    monkeypatch.setenv("BAKE_STEPS", "")
    assert bake("x", "--config", str(file)).steps is None


def test_null_unsets_an_optional_value(file: Path) -> None:
    assert bake("--config", str(file), "--steps", "null").steps is None


def test_help_shows_every_option_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        bake("--help")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for part in ("Bake bread.", "--oven-heat", "share of the oven's power", "--config FILE", "BAKE_", "0.5"):
        assert part in text
