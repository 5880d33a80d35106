"""Chat once through the gateway as its owner: what `helm test` runs."""

import json
import os
import urllib.request


def ask(path: str, body: dict | None = None) -> dict:
    """The gateway's answer to one request; an error status is an exception that names it."""
    headers = {"Authorization": f"Bearer {os.environ['API_KEY']}", "Content-Type": "application/json"}
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(os.environ["URL"] + path, data, headers)  # noqa: S310 - our own Service
    with urllib.request.urlopen(request, timeout=300) as response:  # noqa: S310
        return json.load(response)


model = ask("/v1/models")["data"][0]["id"]
messages = [{"role": "user", "content": "Say hello in one short sentence."}]
answer = ask("/v1/chat/completions", {"model": model, "messages": messages, "max_tokens": 32})
text = answer["choices"][0]["message"]["content"]
assert text.strip(), answer
print(f"{model}: {text}")
