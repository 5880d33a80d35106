"""What happens when a person asks, stops, rates, corrects or opens a conversation.

One conversation lives in the session's state; control has every stored turn of it, so a reload, another
browser or another replica of the UI goes on from there. Handlers give values in the order of the ``outputs``
in ``services.ui.page``.
"""

import asyncio
import html
import time
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any, Literal

import gradio as gr

from services.ui.api import Api, ApiError, Model
from services.ui.conversation import Conversation, Turn
from services.ui.visitors import credential

PAST = 15
# A browser draws no faster, and each update is a message to it.
SECONDS_BETWEEN_UPDATES = 0.05
# By CSS, and mounted from the start: a part with ``visible=False`` is mounted when it is first shown, beside
# the other updates of the same event.
HIDDEN: Literal["hidden"] = "hidden"

Update = Any
Updates = tuple[Update, ...]


class Chat:
    """The handlers of the page."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def enter(self, bookmark: str, request: gr.Request) -> Updates:
        """Fill the page. Outputs: conversation, chatbot, models, past, who, invite button, notice, question,
        the timer that tries again.
        """
        bearer = credential(request)
        try:
            person = await self._api.me(bearer)
            models = await self._api.models(bearer)
            conversation = await self._open(bearer, bookmark)
            past = await self._past(bearer, conversation)
        except ApiError as error:
            again = error.status != HTTPStatus.UNAUTHORIZED
            sentence = f"{error} This page tries again by itself." if again else str(error)
            return (Conversation(), *[gr.skip()] * 5, notice(sentence), gr.skip(), gr.Timer(active=again))
        return (
            conversation,
            whole(conversation),
            _picker(models),
            past,
            f'<div class="who">{html.escape(person["name"])}</div>',
            gr.update(visible=shown(person["role"] == "owner")),
            notice(""),
            gr.update(interactive=True, placeholder="Write a message"),
            gr.Timer(active=False),
        )

    async def ask(
        self, question: str, conversation: Conversation, model: str | None, request: gr.Request
    ) -> AsyncIterator[Updates]:
        """Outputs: question, conversation, chatbot, bookmark, ask button, stop button, notice, opinion."""
        if not question.strip() or not model:
            sentence = "" if model else "There is no model to ask yet: reload this page in a minute."
            yield (gr.skip(), conversation, *[gr.skip()] * 4, notice(sentence), gr.skip())
            return
        answer = Turn("assistant", "")
        conversation.turns += [Turn("user", question.strip()), answer]
        yield ("", conversation, whole(conversation), conversation.id, *busy(True), notice(""), _closed())
        began = time.perf_counter()
        try:
            async for _ in self._stream(conversation, answer, model, credential(request)):
                yield (gr.skip(), conversation, conversation.shown(), *[gr.skip()] * 5)
        except ApiError as error:
            asked = take_back(conversation) or gr.skip()
            yield (
                asked,
                conversation,
                whole(conversation),
                gr.skip(),
                *busy(False),
                notice(str(error)),
                gr.skip(),
            )
            return
        told = f"{answer.model} answered in {time.perf_counter() - began:.1f} s"
        yield (
            gr.skip(),
            conversation,
            whole(conversation),
            gr.skip(),
            *busy(False),
            notice(told, "fact"),
            gr.skip(),
        )

    async def stop(self, conversation: Conversation) -> Updates:
        """Outputs: question, conversation, chatbot, ask button, stop button."""
        asked = take_back(conversation) or gr.skip()
        return asked, conversation, whole(conversation), *busy(False)

    async def retry(
        self, conversation: Conversation, model: str | None, data: gr.RetryData, request: gr.Request
    ) -> AsyncIterator[Updates]:
        """Ask the same again. Outputs: as ``ask``."""
        question = conversation.cut(_index(data))
        async for updates in self.ask(question, conversation, model, request):
            yield updates

    async def edit(
        self, conversation: Conversation, model: str | None, data: gr.EditData, request: gr.Request
    ) -> AsyncIterator[Updates]:
        """An answer put right is a correction; a question put otherwise is asked. Outputs: as ``ask``."""
        index, text = _index(data), str(data.value).strip()
        if conversation.turns[index].role == "user":
            conversation.cut(index)
            async for updates in self.ask(text, conversation, model, request):
                yield updates
            return
        told = await self._correct(conversation.turns[index], text, credential(request))
        yield (gr.skip(), conversation, whole(conversation), *[gr.skip()] * 3, told, gr.skip())

    async def rate(self, conversation: Conversation, data: gr.LikeData, request: gr.Request) -> Updates:
        """Outputs: conversation, opinion, the answer that it is about, notice."""
        turn = conversation.turns[_index(data)]
        if data.liked not in (True, False) or not turn.completion_id:
            return conversation, _closed(), None, gr.skip()
        rating = 1 if data.liked else -1
        try:
            await self._api.give_feedback(credential(request), turn.completion_id, rating=rating)
        except ApiError as error:
            return conversation, _closed(), None, notice(str(error))
        turn.rating = rating
        return conversation, gr.update(elem_classes=folded(False)), turn.completion_id, notice("")

    async def comment(self, text: str, about: str | None, request: gr.Request) -> Updates:
        """Outputs: opinion, comment, notice."""
        if not text.strip() or not about:
            return _closed(), "", gr.skip()
        try:
            await self._api.give_feedback(credential(request), about, comment=text.strip())
        except ApiError as error:
            return gr.skip(), gr.skip(), notice(str(error))
        return _closed(), "", notice("Thank you: your comment is with the answer.", "fact")

    async def list_past(self, conversation: Conversation, request: gr.Request) -> Update:
        """Outputs: past."""
        try:
            return await self._past(credential(request), conversation)
        except ApiError:
            return gr.skip()

    async def open(self, chosen: str, request: gr.Request) -> Updates:
        """Outputs: conversation, chatbot, bookmark, notice, opinion."""
        conversation = await self._open(credential(request), chosen)
        return conversation, whole(conversation), conversation.id, notice(""), _closed()

    async def begin(self) -> Updates:
        """Outputs: conversation, chatbot, bookmark, notice, opinion, past."""
        return Conversation(), gr.update(value=[]), "", notice(""), _closed(), gr.update(value=None)

    async def invite(self, request: gr.Request) -> Updates:
        """Outputs: invite link (its token, which the page makes a link of), notice."""
        try:
            return gr.update(value=await self._api.invite(credential(request)), visible=True), notice("")
        except ApiError as error:
            return gr.skip(), notice(str(error))

    async def _stream(
        self, conversation: Conversation, answer: Turn, model: str, bearer: str | None
    ) -> AsyncIterator[None]:
        pieces = self._api.chat(
            bearer, model=model, messages=conversation.messages(), conversation_id=conversation.id
        )
        drawn = 0.0
        async for piece in pieces:
            answer.text += piece.text
            answer.completion_id, answer.model = piece.completion_id, piece.model
            if piece.text and time.monotonic() - drawn > SECONDS_BETWEEN_UPDATES:
                drawn = time.monotonic()
                yield

    async def _correct(self, turn: Turn, text: str, bearer: str | None) -> Update:
        if not turn.completion_id or not text or text == turn.text:
            return gr.skip()
        try:
            await self._api.give_feedback(bearer, turn.completion_id, correction=text)
        except ApiError as error:
            return notice(str(error))
        turn.text = text
        return notice("Thank you: the next version learns from your correction, or is tested on it.", "fact")

    async def _open(self, bearer: str | None, conversation_id: str) -> Conversation:
        if not conversation_id:
            return Conversation()
        try:
            return Conversation.of(await self._api.conversation(bearer, conversation_id))
        except ApiError:  # deleted, somebody else's, or never stored
            return Conversation()

    async def _past(self, bearer: str | None, current: Conversation) -> Update:
        listed = [summary["id"] for summary in await self._api.conversations(bearer, PAST)]
        others = [conversation_id for conversation_id in listed if conversation_id != current.id]
        found = await asyncio.gather(*(self._open(bearer, conversation_id) for conversation_id in others))
        if current.turns:  # its newest turn may still be on its way into the database
            found = [current, *found]
        choices = [(conversation.title or "…", conversation.id) for conversation in found]
        return gr.update(
            choices=choices, value=current.id if current.turns else None, visible=shown(bool(choices))
        )


def _picker(models: list[Model]) -> Update:
    """Bots first: the first of them is what a person wants to talk to."""
    names = [model.id for model in models]
    return gr.update(choices=names, value=names[0] if names else None)


def whole(conversation: Conversation) -> Update:
    """The chatbot's update to all of ``conversation``."""
    return gr.update(value=conversation.shown(), feedback_value=conversation.ratings())


def shown(is_shown: bool) -> bool | str:
    """A part's visibility; what is hidden stays mounted."""
    return is_shown or HIDDEN


def busy(is_busy: bool) -> Updates:
    """Either the ask button or the stop button."""
    return gr.update(visible=shown(not is_busy)), gr.update(visible=shown(is_busy))


def folded(is_folded: bool) -> list[str]:
    """The classes of a row or a column that is shown or not: these two kinds do not know ``HIDDEN``."""
    return ["folded"] if is_folded else []


def _closed() -> Update:
    return gr.update(elem_classes=folded(True))


def notice(sentence: str, kind: str = "trouble") -> Update:
    """The line under the conversation: trouble, or a fact; none when ``sentence`` is empty."""
    told = f'<p class="{kind}" role="status">{html.escape(sentence)}</p>'
    return gr.update(value=told if sentence else "", visible=shown(bool(sentence)))


def take_back(conversation: Conversation) -> str:
    """Remove a question that has no answer, or one that never began; the question is returned."""
    last = conversation.turns[-1] if conversation.turns else None
    if last and (last.role == "user" or not last.text):
        return conversation.cut(len(conversation.turns) - 1)
    return ""


def _index(data: gr.LikeData | gr.EditData | gr.RetryData) -> int:
    index = data.index
    return int(index[0] if isinstance(index, (list, tuple)) else index)
