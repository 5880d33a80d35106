"""Which conversations are held out: decided by a hash, so for ever, whatever is added to the dataset.

Where people's own words are curated, one conversation decides so for all that ask nearly the same, and what
was decided is recorded (``jobs.curate.sides``).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

HELD_OUT_FRACTION = 0.2


def held_out(key: str, fraction: float = HELD_OUT_FRACTION) -> bool:
    """Whether the conversation ``key`` is held out of training.

    It is when the first 8 bytes of sha256("held-out:" + key), as a big-endian integer, are below
    ``fraction`` x 2^64. A larger fraction keeps every conversation that a smaller one held out.
    """
    digest = hashlib.sha256(f"held-out:{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64


def conversation_key(messages: Sequence[Mapping[str, Any]]) -> str:
    """The key of a conversation that brings none: a hash of its messages up to the first user turn.

    sha256 over the JSON array of [role, content] pairs, without white space, so the same question is always
    on the same side.
    """
    opening = []
    for message in messages:
        opening.append([message["role"], message.get("content") or ""])
        if message["role"] == "user":
            break
    text = json.dumps(opening, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
