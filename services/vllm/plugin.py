"""The plugin that makes every registered version callable by its name on every vLLM replica.

vLLM calls ``register`` in each of its processes (entry point group ``vllm.general_plugins``) and asks the
resolver for any model name that it does not know, under a lock for that name
(``vllm.entrypoints.openai.models.serving.OpenAIServingModels.resolve_lora``). An exception in there reaches
vLLM's own handlers, so a version that cannot be loaded is an error answer for that name, and nothing else.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

from vllm.exceptions import GracefulHTTPError, VLLMClientError
from vllm.lora.request import LoRARequest
from vllm.lora.resolver import LoRAResolver, LoRAResolverRegistry

from common.errors import UserError
from common.names import VersionName
from common.settings import load
from services.vllm import cpu_lora
from services.vllm.cache import AdapterCache
from services.vllm.launch import on_cpu
from services.vllm.settings import VllmSettings

FETCH_SECONDS = 120.0


class AdapterResolver(LoRAResolver):
    """Finds ``support-bot@7`` in the object store.

    It has threads of its own, so that a store that hangs holds up nobody who asks for something else.
    """

    def __init__(self, cache: AdapterCache) -> None:
        self._cache = cache
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="adapters")

    async def resolve_lora(self, base_model_name: str, lora_name: str) -> LoRARequest | None:
        """The adapter called ``lora_name``, on disk and checked; None (vLLM's 404) when there is none.

        Raises:
            VLLMClientError: it cannot be served here; vLLM answers 400 with the sentence.
            GracefulHTTPError: the store is away; vLLM answers 503.
        """
        name = VersionName.parse(lora_name)
        if name is None:
            return None
        fetching = asyncio.get_running_loop().run_in_executor(self._threads, self._cache.fetch, name)
        try:
            folder = await asyncio.wait_for(fetching, FETCH_SECONDS)
        except FileNotFoundError:
            return None
        except UserError as error:
            raise VLLMClientError(str(error)) from error
        except OSError as error:  # the store is away (TimeoutError too), or this disk is full
            message = f"{name} cannot be fetched now: {error or 'the store does not answer'}"
            raise GracefulHTTPError(message, HTTPStatus.SERVICE_UNAVAILABLE) from error
        return LoRARequest(lora_name=lora_name, lora_int_id=1, lora_path=str(folder))  # vLLM sets the id


def register() -> None:
    """Set this process of vLLM up; nothing connects before the first question."""
    settings = load(VllmSettings)
    cache = AdapterCache(
        settings.adapter_cache_dir.expanduser(),
        store_url=settings.store_url,
        base=settings.default_model,
        revision=settings.model_revision,
        max_rank=settings.max_lora_rank,
        keep=settings.adapter_cache_folders,
    )
    LoRAResolverRegistry.register_resolver("onggi", AdapterResolver(cache))
    if on_cpu():
        cpu_lora.install()
