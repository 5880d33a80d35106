"""Rows as the gateway and control write them, for tests that begin where something was said already."""

from typing import Any

from services.database.tables import Completion, Feedback

BOT = "support-bot"


def stored(text: str) -> dict[str, Any]:
    """An answer as the gateway stores it."""
    message = {"role": "assistant", "content": text}
    return {"choices": [{"index": 0, "finish_reason": "stop", "message": message}]}


def completion(id_: str, person_id: str, **changes: Any) -> Completion:
    """The answer "Never." to "When?" by version 7, the bot's champion; stored."""
    values = {
        "id": id_,
        "person_id": person_id,
        "conversation_key": "talk",
        "model": BOT,
        "bot": BOT,
        "version": 7,
        "arm": "champion",
        "status": "done",
        "gateway_id": "g",
        "stored": True,
        "messages": [{"role": "user", "content": "When?"}],
        "answer": stored("Never."),
    }
    return Completion(**values | changes)


def correction(id_: str, person_id: str, completion_id: str, text: str, **changes: Any) -> Feedback:
    """A person's correction of an answer, accepted."""
    values = {
        "id": id_,
        "person_id": person_id,
        "completion_id": completion_id,
        "conversation_key": "talk",
        "bot": BOT,
        "correction": text,
        "state": "accepted",
    }
    return Feedback(**values | changes)
