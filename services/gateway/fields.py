"""Which request fields we know, and what becomes of each.

``FORWARDED`` go upstream as they are; ``OURS`` are read and stored here and never sent on, so that a hosted
upstream keeps nobody's words; ``SAMPLING`` are vLLM's own sampling fields (its protocol's
``ChatCompletionRequest`` and ``CompletionRequest``, 0.32); ``UNSUPPORTED`` are known and refused with the
way out. A test holds that these together are the pinned openai SDK's request types, field by field.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Fields(NamedTuple):
    """The fields of one endpoint."""

    forwarded: frozenset[str]
    ours: frozenset[str]
    sampling: frozenset[str]
    unsupported: Mapping[str, str]

    def knows(self, name: str) -> bool:
        """Whether ``name`` may stand in a request."""
        return name in self.forwarded or name in self.ours or name in self.sampling


_SHARED = {
    "model",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "max_tokens",
    "n",
    "presence_penalty",
    "seed",
    "stop",
    "stream",
    "stream_options",
    "temperature",
    "top_p",
}

_SAMPLING = {
    "add_special_tokens",
    "allowed_token_ids",
    "bad_words",
    "ignore_eos",
    "include_stop_str_in_output",
    "length_penalty",
    "min_p",
    "min_tokens",
    "prompt_logprobs",
    "repetition_penalty",
    "return_token_ids",
    "return_tokens_as_token_ids",
    "skip_special_tokens",
    "spaces_between_special_tokens",
    "stop_token_ids",
    "structured_outputs",
    "top_k",
    "truncate_prompt_tokens",
    "truncation_side",
}

_NO_TEMPLATE = "the base model's own chat template is what it was trained and judged with"

CHAT = Fields(
    forwarded=frozenset(
        _SHARED
        | {
            "messages",
            "max_completion_tokens",
            "parallel_tool_calls",
            "reasoning_effort",
            "response_format",
            "tool_choice",
            "tools",
            "top_logprobs",
        }
    ),
    ours=frozenset(
        {"metadata", "modalities", "prompt_cache_key", "safety_identifier", "service_tier", "store", "user"}
    ),
    sampling=frozenset(
        _SAMPLING
        | {
            "add_generation_prompt",
            "chat_template_kwargs",
            "continue_final_message",
            "documents",
            "echo",
            "include_reasoning",
            "thinking_token_budget",
        }
    ),
    unsupported={
        "audio": "answers are text",
        "chat_template": _NO_TEMPLATE,
        "function_call": "use tool_choice",
        "functions": "use tools",
        "moderation": "moderate before or after the request",
        "prediction": "vLLM has no predicted outputs",
        "prompt_cache_options": "vLLM caches prefixes by itself",
        "prompt_cache_retention": "vLLM caches prefixes by itself",
        "use_beam_search": "sample with n instead",
        "verbosity": "say it in a system message",
        "web_search_options": "there is no web search here",
    },
)

COMPLETION = Fields(
    forwarded=frozenset(_SHARED | {"prompt", "echo"}),
    ours=frozenset({"user"}),
    sampling=frozenset(_SAMPLING | {"response_format"}),
    unsupported={
        "best_of": "ask for n and choose",
        "suffix": "vLLM does not fill in the middle",
        "use_beam_search": "sample with n instead",
    },
)
