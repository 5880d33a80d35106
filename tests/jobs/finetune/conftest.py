"""A tiny Llama with SmolLM2's tokenizer, so that a whole fine-tune takes a second or two."""

import shutil
from pathlib import Path

import pytest

from tests.jobs.finetune import processes, rows


@pytest.fixture(scope="session")
def tiny_base(base_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two random layers of width 64 that read and write SmolLM2's tokens."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("base") / "tiny"
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json"):
        if (base_model / name).exists():
            shutil.copy(base_model / name, folder)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Thirty short chat rows of several lengths."""
    return rows.write(tmp_path / "rows.jsonl", 30)


@pytest.fixture(scope="session")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> processes.Jobs:
    """Starts ``jobs.finetune`` in processes that need not import torch first."""
    jobs = processes.Jobs()
    ended = jobs.run(tmp_path_factory.mktemp("jobs"), "--help")  # returns when the imports are done
    assert "Fine-tune a LoRA adapter" in ended.stdout
    return jobs
