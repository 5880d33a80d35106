"""Which conversation a request belongs to, and which arm of a bot that conversation gets."""

import hashlib
import json
import re

from services.gateway.requests import CompletionRequest

HEADER = "x-onggi-conversation"
# What goes into a header and a column as it is; anything else is hashed.
_PLAIN = re.compile(r"[\x21-\x7e]{1,128}")


def conversation_key(request: CompletionRequest, header: str | None, credential: str) -> str:
    """The key of the request's conversation: stickiness, canary arm and splits go by it.

    Our conversation id (header ``x-onggi-conversation``), else ``metadata.conversation_id``, else
    ``prompt_cache_key``, else a hash of the ``credential`` (key or person id) and the messages up to the
    first user turn, which is the same for every turn of one chat.
    """
    given = header or request.metadata.get("conversation_id") or request.told.get("prompt_cache_key")
    if given:
        return given if _PLAIN.fullmatch(given) else f"conv_{_digest(given)}"
    return f"conv_{_digest([credential, _opening(request)])}"


def is_candidate(key: str, version: str, share: float) -> bool:
    """Whether conversation ``key`` is in the ``share`` (0 to 1) of traffic that candidate ``version`` gets.

    Fixed by the two names alone, so that every replica says the same, and a new candidate draws anew.
    """
    drawn = int.from_bytes(hashlib.sha256(f"{version}\0{key}".encode("utf-8", "replace")).digest()[:8], "big")
    return drawn < share * 2**64


def _opening(request: CompletionRequest) -> object:
    if request.kind == "completion":
        return request.upstream["prompt"]
    messages = request.upstream["messages"]
    first = next(
        (place for place, message in enumerate(messages) if message["role"] == "user"), len(messages)
    )
    return messages[: first + 1]


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]
