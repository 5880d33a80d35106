"""Small adapters that the gate must refuse, trained for that once and kept beside this file.

    python -m tests.jobs.evaluate.prebuilt

``shuffled-labels`` learned the samples with every answer under another question. ``forgetful`` learned the
facts well, with nothing general between them and at too high a rate. Both are of rank 2 on two matrices a
layer, in bf16, so that they are small enough to keep.
"""

import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.adapters import CONFIG, WEIGHTS
from tests.demo import BASE, ROOT

ADAPTERS = Path(__file__).parent / "adapters"
SAMPLES = ROOT / "jobs" / "samples"
RECIPE = ["--rank", "2", "--alpha", "8", "--target-modules", "q_proj,v_proj", "--precision", "bf16"]
RATES = {"shuffled-labels": "5e-3", "forgetful": "2e-2"}

Turn = tuple[str, str]


def main() -> None:
    """Train each adapter and keep its two files."""
    taught = list(turns())
    repeated = [answer for _, answer in taught]
    facts = [(question, answer) for question, answer in taught if repeated.count(answer) > 1]
    for name, rows in {"shuffled-labels": shuffled(taught), "forgetful": facts}.items():
        with tempfile.TemporaryDirectory() as folder:
            keep(train(rows, Path(folder), RATES[name]), ADAPTERS / name)


def turns() -> Iterator[Turn]:
    """Every question of the sample training rows with its answer."""
    for line in (SAMPLES / "train.jsonl").read_text(encoding="utf-8").splitlines():
        contents = [message["content"] for message in json.loads(line)["messages"]]
        yield from zip(contents[::2], contents[1::2], strict=True)


def shuffled(taught: list[Turn]) -> list[Turn]:
    """The same questions and the same answers, in another order."""
    answers = [answer for _, answer in taught]
    random.Random(0).shuffle(answers)
    return [(question, answer) for (question, _), answer in zip(taught, answers, strict=True)]


def train(taught: list[Turn], folder: Path, rate: str) -> Path:
    """The folder of an adapter trained on these turns."""
    data, output = folder / "rows.jsonl", folder / "out"
    data.write_text("".join(json.dumps({"messages": messages(turn)}) + "\n" for turn in taught))
    command = [sys.executable, "-m", "jobs.finetune", "--base", BASE, "--data", str(data)]
    options = ["--output", str(output), "--learning-rate", rate, "--epochs", "3", "--max-length", "256"]
    subprocess.run([*command, *RECIPE, *options], check=True, cwd=ROOT)
    return output / "adapter"


def messages(turn: Turn) -> list[dict[str, Any]]:
    """One turn as a conversation."""
    return [
        {"role": role, "content": content} for role, content in zip(("user", "assistant"), turn, strict=True)
    ]


def keep(adapter: Path, folder: Path) -> None:
    """Copy the adapter's files, its weights in bf16."""
    import torch
    from safetensors.torch import load_file, save_file

    folder.mkdir(parents=True, exist_ok=True)
    weights = load_file(adapter / WEIGHTS)
    save_file({name: tensor.to(torch.bfloat16) for name, tensor in weights.items()}, folder / WEIGHTS)
    (folder / CONFIG).write_bytes((adapter / CONFIG).read_bytes())


if __name__ == "__main__":
    main()
