"""What OpenAI's API has and this one has not: a 404 that says so, with the way out."""

from fastapi import APIRouter, Request

from common.openai_errors import not_found

router = APIRouter(include_in_schema=False)

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
ABSENT = {
    "responses": "use /v1/chat/completions, and keep the conversation on your side",
    "conversations": "use /v1/chat/completions; this project's own are at /onggi/v1/conversations",
    "assistants": "use /v1/chat/completions",
    "threads": "use /v1/chat/completions",
    "embeddings": "no embedding model is served here",
    "audio": "only text models are served here",
    "images": "only text models are served here",
    "moderations": "no moderation model is served here",
    "batches": "send the requests to /v1/chat/completions one by one",
}


async def answer_absent(request: Request) -> None:
    """Say that this part of OpenAI's API is not here."""
    path = request.scope["path"]
    way_out = ABSENT[path.split("/")[2]]
    raise not_found(f"{path} is part of OpenAI's API but not of this one: {way_out}.", code="unknown_url")


for _name in ABSENT:
    for _path in (f"/v1/{_name}", f"/v1/{_name}/{{rest:path}}"):
        router.add_api_route(_path, answer_absent, methods=METHODS)
