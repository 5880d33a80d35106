"""Settings of the vLLM server: what the launcher turns into vLLM's flags and what the resolver plugin reads.

Whatever else vLLM takes is given as flags behind ``python -m services.vllm``.
"""

import os
from pathlib import Path

from pydantic import Field, field_validator

from common.adapters import VLLM_RANKS
from common.models import default_cache_dir
from common.settings import Settings


def _spare_cores() -> int:
    return max(1, len(os.sched_getaffinity(0)) - 1)


class VllmSettings(Settings):
    """The launcher and the plugin read the same environment; the launcher adds the two names of the base."""

    model: str = "SmolLM2-135M-Instruct"
    """The base model: its name in ``model_cache_dir``, its hub id, or its folder."""
    model_cache_dir: Path = Field(default_factory=default_cache_dir)
    default_model: str = ""
    """The name the base is served by; the launcher sets it from the model's record."""
    model_revision: str | None = None
    """The base's revision; the launcher sets it from the model's record."""

    vllm_host: str = "127.0.0.1"
    vllm_port: int = Field(default=8000, ge=1, le=65535)
    max_model_len: int | None = Field(default=None, ge=1)
    """Longest prompt and answer together, in tokens; the model's own limit where it is not set."""
    max_loras: int = Field(default=3, ge=1)
    """Adapters in one batch: champion, candidate and one that is being judged."""
    max_lora_rank: int = 64
    max_cpu_loras: int = Field(default=16, ge=1)
    """Adapters kept in memory; others are read again from ``adapter_cache_dir``."""
    shutdown_seconds: int = Field(default=60, ge=0)
    """How long requests in flight may go on after SIGTERM."""

    store_url: str = "./.onggi/store"
    adapter_cache_dir: Path = Field(default_factory=lambda: default_cache_dir().parent / "adapters")
    adapter_cache_folders: int = Field(default=32, ge=1)
    """Adapters kept on disk, besides those that a running server has handed to vLLM."""

    cpu_threads: int = Field(default_factory=_spare_cores, ge=1)
    """Threads that vLLM for CPU computes with: one core is left to its event loop and to everything else."""
    cpu_kv_cache_gib: int = Field(default=1, ge=1)

    @field_validator("max_lora_rank")
    @classmethod
    def _is_one_of_vllms(cls, rank: int) -> int:
        if rank not in VLLM_RANKS:
            raise ValueError(f"{rank} is none of vLLM's ranks: use one of {', '.join(map(str, VLLM_RANKS))}")
        return rank
