"""A caller's request body: checked, defaults applied, and what is sent upstream made of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from starlette.requests import Request

from common.openai_errors import OpenAIError, invalid
from services.gateway.fields import CHAT, COMPLETION, Fields

LARGEST_BODY = 32 * 2**20
MAX_CHOICES = 8  # answers (n) times prompts: each holds a sequence of vLLM's batch
SERVICE_TIERS = ("auto", "default")
# OpenAI's limits: https://platform.openai.com/docs/api-reference/chat/create#chat_create-metadata
METADATA_PAIRS, METADATA_KEY, METADATA_VALUE = 16, 64, 512

Kind = Literal["chat", "completion"]
Body = dict[str, Any]


@dataclass(frozen=True)
class Defaults:
    """What a request that does not say gets."""

    temperature: float
    max_tokens: int


@dataclass(frozen=True)
class CompletionRequest:
    """A valid request.

    ``upstream`` is the body to send, but for the model's name. ``store`` is None when the caller did not say.
    ``told`` holds what is kept with a stored row: metadata, user and the like.
    """

    kind: Kind
    model: str
    upstream: Body
    stream: bool
    wants_usage: bool
    store: bool | None
    told: Body = field(default_factory=dict)

    @property
    def path(self) -> str:
        """Where it goes, below the upstream's base URL."""
        return "/chat/completions" if self.kind == "chat" else "/completions"

    @property
    def metadata(self) -> Mapping[str, str]:
        """The caller's metadata, empty when there is none."""
        metadata: Mapping[str, str] = self.told.get("metadata") or {}
        return metadata


async def read_body(request: Request) -> bytes:
    """The request's whole body.

    Raises:
        OpenAIError: 413, before it is read to its end, when it is larger than ``LARGEST_BODY``.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise OpenAIError(413, f"The request's body is larger than {LARGEST_BODY >> 20} MiB.")
    return bytes(body)


def parse(raw: bytes, kind: Kind, defaults: Defaults) -> CompletionRequest:
    """Read a request body.

    Raises:
        OpenAIError: 400, naming the field, when the body is not a request that we can serve.
    """
    body = _json_object(raw)
    fields = CHAT if kind == "chat" else COMPLETION
    _check_names(body, fields)
    _check_values(body)
    _check_prompt(body, kind)
    stream = bool(body.get("stream"))
    return CompletionRequest(
        kind=kind,
        model=body["model"],
        upstream=_upstream_body(body, fields, stream, defaults),
        stream=stream,
        wants_usage=bool((body.get("stream_options") or {}).get("include_usage")),
        store=body.get("store"),
        told={
            name: body[name] for name in sorted(fields.ours) if body.get(name) is not None and name != "store"
        },
    )


def _json_object(raw: bytes) -> Body:
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise invalid("The request's body is not JSON: send one JSON object.") from None
    if not isinstance(body, dict):
        raise invalid("The request's body is not a JSON object.")
    return body


def _check_names(body: Body, fields: Fields) -> None:
    for name, value in body.items():
        if name in fields.unsupported and value not in (None, False):
            raise invalid(
                f"{name} is not supported here: {fields.unsupported[name]}.", name, "unsupported_parameter"
            )
        if not fields.knows(name) and name not in fields.unsupported:
            raise invalid(
                f"Unrecognized request argument supplied: {name[:100]}. It is neither a field of OpenAI's "
                "API nor one of vLLM's sampling fields.",
                name[:100],
                "unknown_parameter",
            )


def _check_values(body: Body) -> None:
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise invalid("you must provide a model parameter", "model")
    for name in ("stream", "store"):
        _expect(body, name, bool, "a boolean")
    for name in ("user", "safety_identifier", "prompt_cache_key"):
        _expect(body, name, str, "a string")
    for name in ("max_tokens", "max_completion_tokens"):
        _expect_count(body, name)
    _check_tier(body)
    _check_modalities(body)
    _check_metadata(body)
    _check_choices(body)
    _check_stream_options(body)


def _expect(body: Body, name: str, kind: type, wanted: str) -> None:
    value = body.get(name)
    if value is not None and not isinstance(value, kind):
        raise invalid(f"Invalid type for {name}: expected {wanted}.", name, "invalid_type")


def _expect_count(body: Body, name: str) -> None:
    value = body.get(name)
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise invalid(f"Invalid value for {name}: expected an integer of at least 1.", name, "invalid_value")


def _check_tier(body: Body) -> None:
    tier = body.get("service_tier")
    if tier is not None and tier not in SERVICE_TIERS:
        raise invalid(
            f"service_tier {tier!r} is not supported here: send auto or default, or leave it out.",
            "service_tier",
            "unsupported_value",
        )


def _check_modalities(body: Body) -> None:
    if body.get("modalities") not in (None, ["text"]):
        raise invalid("modalities: answers are text only.", "modalities", "unsupported_value")


def _check_metadata(body: Body) -> None:
    if (metadata := body.get("metadata")) is not None:
        check_metadata(metadata)


def check_metadata(metadata: Any) -> None:
    """Hold metadata to OpenAI's limits: 16 pairs, keys of 64 and values of 512 characters.

    Raises:
        OpenAIError: 400.
    """
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise invalid("metadata: expected an object whose values are strings.", "metadata", "invalid_type")
    long = [
        name for name, value in metadata.items() if len(name) > METADATA_KEY or len(value) > METADATA_VALUE
    ]
    if len(metadata) > METADATA_PAIRS or long:
        raise invalid(
            f"metadata: at most {METADATA_PAIRS} pairs, with keys of up to {METADATA_KEY} and values "
            f"of up to {METADATA_VALUE} characters.",
            "metadata",
            "invalid_value",
        )


def _check_choices(body: Body) -> None:
    _expect_count(body, "n")
    prompt = body.get("prompt")
    prompts = len(prompt) if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int) else 1
    if (body.get("n") or 1) * prompts > MAX_CHOICES:
        raise invalid(
            f"n: at most {MAX_CHOICES} answers in one request (n times prompts).", "n", "invalid_value"
        )


def _check_stream_options(body: Body) -> None:
    options = body.get("stream_options")
    _expect(body, "stream_options", dict, "an object")
    if options is None:
        return
    if not body.get("stream"):
        raise invalid(
            "stream_options is only allowed when stream is true.", "stream_options", "invalid_value"
        )
    if unknown := set(options) - {"include_usage", "include_obfuscation"}:
        name = f"stream_options.{min(unknown)[:100]}"
        raise invalid(f"{name} is not supported here.", name, "unknown_parameter")


def _check_prompt(body: Body, kind: Kind) -> None:
    if kind == "completion":
        if not body.get("prompt"):
            raise invalid("you must provide a prompt", "prompt")
        return
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise invalid("messages: expected a list of at least one message.", "messages")
    for place, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise invalid(
                f"messages[{place}]: expected an object with a role.",
                f"messages.[{place}].role",
                "invalid_type",
            )


def _upstream_body(body: Body, fields: Fields, stream: bool, defaults: Defaults) -> Body:
    """What is sent: the caller's fields but ours and the unsupported ones, with the defaults filled in."""
    sent = {name: value for name, value in body.items() if name in fields.forwarded | fields.sampling}
    if sent.get("temperature") is None:
        sent["temperature"] = defaults.temperature
    if sent.get("max_tokens") is None and sent.get("max_completion_tokens") is None:
        sent["max_tokens"] = defaults.max_tokens
    sent["stream"] = stream
    sent.pop("stream_options", None)
    if stream:
        sent["stream_options"] = {"include_usage": True}
    return sent


def read_metadata_update(raw: bytes) -> dict[str, str] | None:
    """The body of a stored completion's update: ``{"metadata": {...} or null}`` and nothing else.

    Raises:
        OpenAIError: 400.
    """
    body = _json_object(raw)
    if set(body) != {"metadata"}:
        raise invalid("Send metadata, and nothing else: only it can be changed.", "metadata")
    if body["metadata"] is not None:
        check_metadata(body["metadata"])
    metadata: dict[str, str] | None = body["metadata"]
    return metadata
