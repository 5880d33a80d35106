"""Request fields, conversation keys, settings: what needs no server."""

import inspect
import json

import pytest
from openai.types import completion_create_params as text
from openai.types.chat import completion_create_params as chat

from common.errors import UserError
from common.openai_errors import OpenAIError
from common.settings import load
from services.gateway.conversation import conversation_key
from services.gateway.fields import CHAT, COMPLETION, Fields
from services.gateway.requests import CompletionRequest, Defaults, parse
from services.gateway.settings import GatewaySettings

HELLO = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]


def sdk_fields(module: object) -> set[str]:
    """Every field of the pinned SDK's request type."""
    kinds = [kind for name, kind in inspect.getmembers(module) if name.startswith("CompletionCreateParams")]
    return {name for kind in kinds for name in getattr(kind, "__annotations__", {})}


@pytest.mark.parametrize(("fields", "module"), [(CHAT, chat), (COMPLETION, text)])
def test_every_field_of_the_pinned_sdk_has_its_place_and_no_other_is_openais(
    fields: Fields, module: object
) -> None:
    openais = fields.forwarded | fields.ours | set(fields.unsupported)
    # vLLM's, listed with the unsupported ones because people try them.
    vllms = {"chat_template", "use_beam_search", "echo"} - sdk_fields(module)
    assert openais - vllms == sdk_fields(module)


@pytest.mark.parametrize("fields", [CHAT, COMPLETION])
def test_no_field_has_two_places(fields: Fields) -> None:
    places = [fields.forwarded, fields.ours, fields.sampling, frozenset(fields.unsupported)]
    assert sum(map(len, places)) == len(frozenset().union(*places))


def read(**body: object) -> CompletionRequest:
    """A parsed chat request."""
    defaults = Defaults(temperature=0.7, max_tokens=512)
    return parse(json.dumps({"model": "m", "messages": HELLO, **body}).encode(), "chat", defaults)


@pytest.mark.parametrize("name", sorted(CHAT.unsupported))
def test_what_is_known_but_unsupported_says_the_way_out(name: str) -> None:
    with pytest.raises(
        OpenAIError, match=f"{name} is not supported here: {CHAT.unsupported[name]}"
    ) as refused:
        read(**{name: {"a": 1}})
    assert refused.value.code == "unsupported_parameter"
    assert name not in read(**{name: None}).upstream


def test_nulls_of_optional_fields_are_the_same_as_nothing() -> None:
    request = read(
        temperature=None, max_tokens=None, n=None, store=None, metadata=None, stream=None, user=None
    )
    assert request.upstream["temperature"] == 0.7
    assert request.upstream["max_tokens"] == 512
    assert (request.stream, request.store, request.told) == (False, None, {})


def test_the_conversation_is_named_by_header_metadata_or_cache_key_in_this_order() -> None:
    request = read(metadata={"conversation_id": "from-metadata"}, prompt_cache_key="from-cache")
    assert conversation_key(request, "from-header", "key") == "from-header"
    assert conversation_key(request, None, "key") == "from-metadata"
    assert conversation_key(read(prompt_cache_key="from-cache"), None, "key") == "from-cache"


def test_an_unnamed_conversation_keeps_its_key_as_it_grows() -> None:
    turns = [*HELLO, {"role": "assistant", "content": "Hi"}, {"role": "user", "content": "How are you?"}]
    first, later = conversation_key(read(), None, "key"), conversation_key(read(messages=turns), None, "key")
    assert first == later
    assert first.startswith("conv_")
    assert conversation_key(read(), None, "other key") != first
    assert conversation_key(read(messages=HELLO[1:]), None, "key") != first


@pytest.mark.parametrize("name", ["with space", "é", "a\nb", "x" * 129, "a\x00b", "\ud800"])
def test_a_name_that_fits_no_header_is_hashed(name: str) -> None:
    key = conversation_key(read(prompt_cache_key=name), None, "key")
    assert key.startswith("conv_")
    assert key == conversation_key(read(prompt_cache_key=name), None, "other key")


def test_a_default_secret_refuses_to_start_outside_debug(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JWT_SECRET_KEY", "DEBUG", "ENABLE_AUTH"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="JWT_SECRET_KEY is the default one"):
        load(GatewaySettings)
    assert load(GatewaySettings, debug=True).debug
    assert load(GatewaySettings, jwt_secret_key="mine").enable_auth


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("http://vllm:8000", "http://vllm:8000/v1"),
        ("http://vllm:8000/", "http://vllm:8000/v1"),
        ("http://vllm:8000/v1/", "http://vllm:8000/v1"),
        ("https://api.example/openai/v1", "https://api.example/openai/v1"),
    ],
)
def test_the_upstreams_address_may_leave_out_its_v1(given: str, used: str) -> None:
    assert load(GatewaySettings, vllm_base_url=given, debug=True).vllm_base_url == used


def test_an_address_that_is_none_is_refused_with_an_example() -> None:
    with pytest.raises(UserError, match="vllm_base_url: 'vllm:8000' is no address"):
        load(GatewaySettings, vllm_base_url="vllm:8000", debug=True)
