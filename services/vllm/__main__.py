"""Start vLLM's OpenAI-compatible server with our resolver and route list:

    MODEL=SmolLM2-135M-Instruct STORE_URL=./.onggi/store python -m services.vllm [any other flag of vLLM's]

It runs in vLLM's own environment and becomes the vLLM process, so signals and exit codes are vLLM's.
"""

import os
import sys

from common import errors, models
from common.settings import load
from services.vllm.launch import build_command, build_environ
from services.vllm.settings import VllmSettings


def main() -> None:
    """Find the base model and replace this process with vLLM's."""
    settings = load(VllmSettings)
    base = models.resolve(settings.model, settings.model_cache_dir.expanduser())
    command = build_command(settings, base, sys.argv[1:])
    os.execve(command[0], command, build_environ(settings, base, os.environ))  # noqa: S606


errors.run(main)
