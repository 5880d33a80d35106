"""What the model server's refusals become for the caller."""

import json

from common.openai_errors import OpenAIError, not_found, unavailable


def translate(status: int, body: bytes, retry_after: str | None = None) -> OpenAIError:
    """The upstream's refusal as ours: its own words for a 4xx that the caller can mend, else in general.

    A 401 or 403 is about our key and not the caller's, so it is a 502 that names the setting.
    """
    message, param = words(body)
    if status in (401, 403):
        return OpenAIError(502, "The model server refused the gateway's own key: set UPSTREAM_API_KEY.")
    if status == 404:
        return not_found(message or "The model server does not know this model.", "model", "model_not_found")
    if status == 429:
        headers = {"Retry-After": retry_after or "5"}
        return OpenAIError(429, message or "The model server asks for a pause.", headers=headers)
    if 400 <= status < 500:
        return OpenAIError(status, message or f"The model server answered {status}.", param=param)
    if status == 503:
        return unavailable(message or "The model server cannot answer now: try again in a moment.")
    return OpenAIError(
        502,
        f"The model server failed ({status}): {message or 'no reason given'}",
        headers={"Retry-After": "5"},
    )


def words(body: bytes) -> tuple[str, str | None]:
    """The message and the param of an error body: OpenAI's shape, or FastAPI's ``detail``, or none."""
    try:
        data = json.loads(body)
    except ValueError:
        return "", None
    error = data.get("error", data) if isinstance(data, dict) else None
    if isinstance(error, dict):
        message, param = error.get("message") or error.get("detail"), error.get("param")
        return str(message or "")[:2000], param.removeprefix("body.") if isinstance(param, str) else None
    return str(error or "")[:2000], None
