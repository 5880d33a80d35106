"""The real SmolLM2, by LoRA and by QLoRA: the loss falls, and PEFT loads what vLLM will."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.finetune import rows
from tests.jobs.finetune.processes import Jobs


@pytest.fixture(scope="module")
def base(base_model: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(base_model, dtype=torch.bfloat16)


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_the_loss_falls_and_the_adapter_changes_the_base(
    method: str, base: Any, base_model: Path, jobs: Jobs, tmp_path: Path
) -> None:
    import torch
    from peft import PeftModel

    data = rows.write(tmp_path / "rows.jsonl", 4)
    output = tmp_path / "out"
    flags = ["--base", str(base_model), "--data", str(data), "--output", str(output)]
    flags += ["--method", method, "--max-steps", "4", "--epochs", "4", "--learning-rate", "0.002"]
    ended = jobs.run(tmp_path, *flags)
    assert ended.code == 0, ended.stderr
    losses = [json.loads(line)["loss"] for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.7 * losses[0]
    ids = torch.tensor([[1, 4093, 198, 1780]])
    with torch.no_grad():
        before = base(input_ids=ids).logits
        adapted = PeftModel.from_pretrained(base, output / "adapter")
        after = adapted(input_ids=ids).logits
        adapted.unload()
    assert (before - after).abs().max() > 0.5
    config = json.loads((output / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "SmolLM2-135M-Instruct"
    assert (config["r"], config["bias"], config["modules_to_save"]) == (16, "none", None)
