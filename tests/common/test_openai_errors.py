"""Every error answer has OpenAI's shape."""

import pytest
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.testclient import TestClient

from common.openai_errors import OpenAIError, default_type, install_handlers, unavailable


class Body(BaseModel):
    name: str


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()
    install_handlers(app)

    @app.get("/away")
    async def away() -> None:
        raise unavailable("The database is away.", retry_after=3)

    @app.get("/refused")
    async def refused() -> None:
        raise OpenAIError(409, "It serves.", param="model", code="conflict")

    @app.post("/named")
    async def named(body: Body) -> str:
        return body.name

    return TestClient(app, raise_server_exceptions=False)


def test_an_error_carries_message_type_param_and_code(client: TestClient) -> None:
    answer = client.get("/refused")
    assert answer.status_code == 409
    assert answer.json() == {
        "error": {
            "message": "It serves.",
            "type": "invalid_request_error",
            "param": "model",
            "code": "conflict",
        }
    }


def test_unavailable_says_when_to_try_again(client: TestClient) -> None:
    answer = client.get("/away")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")
    assert answer.json()["error"]["type"] == "server_error"


def test_an_unknown_path_and_a_wrong_method_are_errors_in_the_same_shape(client: TestClient) -> None:
    unknown, wrong = client.get("/v1/nothing"), client.post("/away")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "unknown_url")
    assert "GET /v1/nothing" in unknown.json()["error"]["message"]
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_supported")
    assert wrong.headers["allow"] == "GET"


def test_a_body_of_the_wrong_shape_is_a_400_that_names_the_field(client: TestClient) -> None:
    answer = client.post("/named", json={"name": 3})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "name"
    assert answer.json()["error"]["message"].startswith("name: ")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (429, "rate_limit_error"),
        (502, "server_error"),
    ],
)
def test_the_type_follows_from_the_status(status: int, kind: str) -> None:
    assert default_type(status) == kind
