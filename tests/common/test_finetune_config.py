"""What a fine-tune's configuration takes, and what it refuses before anything heavy is imported."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from common.errors import UserError
from common.finetune_config import FinetuneConfig
from common.job_config import parse

REQUIRED = ["--base", "SmolLM2-135M-Instruct", "--data", "rows.jsonl", "--output", "out"]
RECIPES = sorted((Path(__file__).parents[2] / "jobs" / "recipes").glob("*.yaml"))


def config(*flags: str) -> FinetuneConfig:
    return parse(FinetuneConfig, [*REQUIRED, *flags], prog="python -m jobs.finetune")


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_every_shipped_recipe_parses_and_its_values_arrive(recipe: Path) -> None:
    values = yaml.safe_load(recipe.read_text())
    missing = [flag for key in ("data", "output") if key not in values for flag in (f"--{key}", "given")]
    parsed = parse(FinetuneConfig, ["--config", str(recipe), *missing], prog="python -m jobs.finetune")
    arrived = parsed.model_dump(mode="json")
    assert {key: arrived[key] for key in values} == values


def test_a_configuration_that_control_writes_reads_back_the_same(tmp_path: Path) -> None:
    written = FinetuneConfig(
        bot="support-bot",
        base="SmolLM2-135M-Instruct",
        data="file:///store/files/file-1",
        output=Path("out"),
        metadata={"team": "support"},
        mlflow_tracking_uri="http://127.0.0.1:5050",
    )
    file = tmp_path / "finetune.yaml"
    file.write_text(yaml.safe_dump(written.model_dump(mode="json")))
    assert parse(FinetuneConfig, ["--config", str(file)], prog="python -m jobs.finetune") == written


def test_controls_token_is_in_no_dump_and_no_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTROL_TOKEN", "very-secret")
    parsed = config()
    assert parsed.control_token is not None
    assert parsed.control_token.get_secret_value() == "very-secret"
    assert "very-secret" not in f"{parsed!r}{parsed.model_dump_json()}"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--use-dora"], ["use_dora", "DoRA"]),
        (["--bias", "all"], ["bias", "trained biases"]),
        (["--modules-to-save", "lm_head"], ["modules_to_save", "whole trained modules"]),
        (["--rank", "128"], ["rank 128", "max_serving_rank 64"]),
        (["--max-serving-rank", "48"], ["max_serving_rank", "one of 1, 8, 16"]),
        (["--rank", "0"], ["rank"]),
        (["--bot", "Support Bot"], ["bot"]),
        (["--bot", "support-bot"], ["MLFLOW_TRACKING_URI"]),
        (["--learning-rte", "1"], ["learning-rte"]),
    ],
)
def test_what_vllm_cannot_serve_and_what_is_wrong_is_refused_by_name(
    flags: list[str], words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UserError) as refusal:
        config(*flags)
    assert all(word in str(refusal.value) for word in words), str(refusal.value)


def test_target_modules_are_a_list_in_a_file_and_comma_separated_in_a_flag(
    tmp_path: Path,
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("target_modules: [q_proj, v_proj]\n")
    assert config("--config", str(file)).targets == ["q_proj", "v_proj"]
    assert config("--target-modules", "q_proj,v_proj").targets == ["q_proj", "v_proj"]
    assert config().targets == "all-linear"


def test_the_values_that_decide_the_weights_leave_out_where_a_run_happens() -> None:
    here = config("--checkpoint-every", "5").training_values()
    assert here == config("--job-id", "ftjob-1", "--restart").training_values()
    assert here != config("--seed", "1").training_values()


def test_a_refusal_takes_no_heavy_import() -> None:
    """The command refuses without torch, transformers and MLflow, so a Job fails in a second."""
    code = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'mlflow', 'peft'): sys.modules[name] = None\n"
        f"sys.argv = ['finetune', *{[*REQUIRED, '--use-dora']!r}]\n"
        "from common import errors\n"
        "from jobs.finetune.__main__ import main\n"
        "errors.run(main)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith("error: ")
    assert "vLLM cannot serve DoRA" in ended.stderr
