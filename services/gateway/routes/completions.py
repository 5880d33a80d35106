"""POST /v1/chat/completions and /v1/completions."""

from fastapi import APIRouter, Request

from common import tracing
from common.openai_errors import unavailable
from services.database.credentials import Caller
from services.gateway import conversation, record
from services.gateway.deps import CallerDep, Gateway, GatewayDep
from services.gateway.relay import Relay, StreamRelay, WholeRelay
from services.gateway.requests import CompletionRequest, Defaults, Kind, parse, read_body

router = APIRouter(tags=["completions"])

_CHAT_EXAMPLE: dict[str, object] = {
    "model": "support-bot",
    "messages": [{"role": "user", "content": "Hello"}],
}
_TEXT_EXAMPLE: dict[str, object] = {"model": "support-bot", "prompt": "Hello"}


def _documented(example: dict[str, object]) -> dict[str, object]:
    """The body in the OpenAPI document: OpenAI's request, which we check ourselves and pass on."""
    schema = {"type": "object", "required": sorted(example), "additionalProperties": True}
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schema, "example": example}},
        }
    }


@router.post("/v1/chat/completions", openapi_extra=_documented(_CHAT_EXAMPLE))
async def create_chat_completion(request: Request, gateway: GatewayDep, caller: CallerDep) -> Relay:
    """Answer a conversation: OpenAI's chat completions, streamed or whole."""
    return await _create(request, "chat", gateway, caller)


@router.post("/v1/completions", openapi_extra=_documented(_TEXT_EXAMPLE))
async def create_completion(request: Request, gateway: GatewayDep, caller: CallerDep) -> Relay:
    """Go on from a prompt: OpenAI's legacy completions. Their text is never stored."""
    return await _create(request, "completion", gateway, caller)


async def _create(request: Request, kind: Kind, gateway: Gateway, caller: Caller) -> Relay:
    settings = gateway.settings
    asked = parse(
        await read_body(request), kind, Defaults(settings.default_temperature, settings.default_max_tokens)
    )
    if not gateway.served.database_answers:
        raise unavailable("The database is away, so no answer could be put on record: try again in a moment.")
    key = conversation.conversation_key(
        asked, request.headers.get(conversation.HEADER), caller.key_id or caller.person_id
    )
    target = await gateway.served.resolve(asked.model, key)
    made = record.begin(
        asked,
        target,
        person_id=caller.person_id,
        key_id=caller.key_id,
        conversation=key,
        stored=_is_stored(asked, caller),
        gateway_id=gateway.id,
        trace_id=tracing.current_trace_id(),
    )
    relay = StreamRelay if asked.stream else WholeRelay
    headers = {"x-onggi-model": target.model, conversation.HEADER: key}
    return relay(
        asked,
        target,
        made,
        upstream=gateway.upstream,
        ledger=gateway.ledger,
        traffic=gateway.traffic,
        shadows=gateway.shadows,
        headers=headers,
    )


def _is_stored(asked: CompletionRequest, caller: Caller) -> bool:
    if asked.kind == "completion":
        return False
    return caller.store_default if asked.store is None else asked.store
