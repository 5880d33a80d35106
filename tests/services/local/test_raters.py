"""How simulated raters talk to the API: a conversation for each question, one opinion, errors counted."""

import json
from typing import Any

import httpx
import pytest

from services.local.api import Api
from services.local.lessons import Lesson
from services.local.raters import Chatter, Opinion, Rater, Traffic, accept, join, rate_all

LESSONS = [Lesson(f"Question {number}?", f"Answer {number}.") for number in range(5)]


class Edge(httpx.MockTransport):
    """The API's edge: answers, takes feedback and joins, and keeps what was asked."""

    def __init__(self, status: int = 200) -> None:
        super().__init__(self._answer)
        self.status = status
        self.asked: list[tuple[str, str, dict[str, Any]]] = []

    def of(self, path: str) -> list[dict[str, Any]]:
        return [body for _, asked, body in self.asked if asked.startswith(path)]

    def _answer(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content or b"{}")
        self.asked.append((request.headers["authorization"], request.url.path, body))
        number = len(self.asked)
        choice = {"finish_reason": "length", "message": {"content": "Well, well, well"}}
        answers: dict[str, dict[str, Any]] = {
            "/v1/chat/completions": {"id": f"chatcmpl-{number}", "choices": [choice]},
            "/onggi/v1/people/invites": {"token": "invite"},
            "/onggi/v1/people/join": {"person": {"id": f"person_{number}"}, "token": f"session-{number}"},
        }
        if request.url.path == "/v1/chat/completions" and self.status != 200:
            return httpx.Response(self.status, json={"error": {"message": "no replica"}})
        return httpx.Response(200, json=answers.get(request.url.path, {"id": f"fb_{number}"}))


@pytest.fixture
def edge() -> Edge:
    return Edge()


@pytest.fixture
def traffic() -> Traffic:
    return Traffic()


def people(edge: Edge, traffic: Traffic, count: int) -> list[Rater]:
    def open_api(credential: str) -> Api:
        return Api("http://onggi", credential, edge)

    return [join(open_api("owner"), open_api, f"rater {number}", traffic) for number in range(count)]


def test_each_lesson_is_a_conversation_of_its_own_and_gets_one_opinion(edge: Edge, traffic: Traffic) -> None:
    seen: list[bool] = []

    def rule(lesson: Lesson, answer: str, ended: bool) -> Opinion:
        seen.append(ended)
        return Opinion(-1, lesson.answer) if lesson is LESSONS[0] else Opinion(1)

    said = rate_all(people(edge, traffic, 2), "bot", LESSONS, rule, about="lesson")
    chats = edge.of("/v1/chat/completions")
    assert {chat["metadata"]["conversation_id"] for chat in chats} == {f"lesson-{n}" for n in range(5)}
    assert all(chat["store"] for chat in chats)
    opinions = edge.of("/onggi/v1/feedback")
    assert sorted(opinion["rating"] for opinion in opinions) == [-1, 1, 1, 1, 1]
    assert [opinion["correction"] for opinion in opinions if "correction" in opinion] == ["Answer 0."]
    assert seen == [False] * 5
    assert len(set(said)) == 5
    assert (traffic.answers, traffic.errors) == (5, [])
    assert {who for who, path, _ in edge.asked if path == "/onggi/v1/feedback"} == {
        "Bearer session-2",
        "Bearer session-4",
    }


def test_an_error_is_counted_and_nothing_is_said_of_it(edge: Edge, traffic: Traffic) -> None:
    raters = people(edge, traffic, 1)
    edge.status = 503
    assert rate_all(raters, "bot", LESSONS, lambda *_: Opinion(1), about="lesson") == []
    assert edge.of("/onggi/v1/feedback") == []
    assert traffic.errors == ["rater 0: POST /v1/chat/completions -> 503: no replica"] * 5


def test_an_owner_accepts_what_was_said(edge: Edge) -> None:
    accept(Api("http://onggi", "owner", edge), ["fb_1", "fb_2"], "rejected")
    assert edge.asked == [
        ("Bearer owner", f"/onggi/v1/feedback/fb_{number}", {"state": "rejected"}) for number in (1, 2)
    ]


def test_somebody_goes_on_chatting_until_it_is_over(edge: Edge, traffic: Traffic) -> None:
    [rater] = people(edge, traffic, 1)
    with Chatter(rater, "bot", LESSONS, every=0.001):
        while traffic.answers < 7:
            pass
    chats = edge.of("/v1/chat/completions")
    assert chats[6]["messages"][0]["content"] == "Question 1?"
    assert len({chat["metadata"]["conversation_id"] for chat in chats}) == len(chats)
    assert edge.of("/onggi/v1/feedback") == []
