"""Two versions answer one question side by side, without names; one click chooses, and the talk goes on.

Which side is whose is drawn here for each question, and the browser is never told. While a pair is open
nothing else is asked; whatever leaves it (another conversation, a retry) leaves it unchosen.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Literal

import gradio as gr

from services.ui.api import Api, ApiError
from services.ui.chat import (
    SECONDS_BETWEEN_UPDATES,
    Update,
    Updates,
    busy,
    folded,
    notice,
    shown,
    take_back,
    whole,
)
from services.ui.conversation import Conversation, Turn
from services.ui.visitors import credential

Side = Literal["first", "second", "tie"]
_THANKS = {
    "first": "Thank you. The conversation goes on with the answer that you chose.",
    "second": "Thank you. The conversation goes on with the answer that you chose.",
    "tie": "Thank you. The conversation goes on with the first one.",
}
_RANDOM = random.SystemRandom()


@dataclass
class Pair:
    """Two answers under way or to be chosen from; ``models`` in the order shown."""

    bot: str
    models: tuple[str, str]
    answers: tuple[Turn, Turn] = field(default_factory=lambda: (Turn("assistant", ""), Turn("assistant", "")))
    comparison_id: str | None = None

    def texts(self) -> tuple[str, str]:
        """What is shown of them so far."""
        first, second = self.answers
        return first.text or "…", second.text or "…"


class Compare:
    """The handlers of a comparison."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def offer(self, model: str | None, request: gr.Request) -> Update:
        """Whether there is something to compare. Outputs: compare button."""
        return gr.update(visible=shown(bool(await self._on_trial(model, credential(request)))))

    async def ask(
        self, question: str, conversation: Conversation, model: str | None, request: gr.Request
    ) -> AsyncIterator[Updates]:
        """Ask both. Outputs: question, conversation, chatbot, bookmark, ask button, stop button, notice,
        pair, panel, left, right, left button, right button, tie button.
        """
        bearer, asked = credential(request), question.strip()
        models = await self._on_trial(model, bearer)
        if not asked or not models:
            sentence = "" if models else "No other version is on trial now: ask as usual."
            yield (gr.skip(), conversation, *[gr.skip()] * 4, notice(sentence), None, *[gr.skip()] * 6)
            return
        pair = Pair(str(model), models)
        conversation.turns.append(Turn("user", asked))
        closed = gr.update(value="", interactive=False, placeholder="Choose one of the two first")
        start = (closed, conversation, whole(conversation), conversation.id, *busy(True), notice(""))
        yield (*start, pair, gr.update(elem_classes=folded(False)), *_drawn(pair), *_choosable(False))
        began = time.perf_counter()
        try:
            async for _ in self._stream(conversation, pair, bearer):
                yield (*[gr.skip()] * 7, pair, gr.skip(), *_drawn(pair), *[gr.skip()] * 3)
            ids = [str(answer.completion_id) for answer in pair.answers]
            pair.comparison_id = await self._api.begin_comparison(bearer, pair.bot, ids)
        except ApiError as error:
            yield _withdrawn(conversation, str(error))
            return
        told = f"Both answered in {time.perf_counter() - began:.1f} s. Which one is better?"
        end = (gr.skip(), conversation, gr.skip(), gr.skip(), *_waiting(), notice(told, "fact"))
        yield (*end, pair, gr.skip(), *_drawn(pair), *_choosable(True))

    async def left(self, pair: Pair | None, conversation: Conversation, request: gr.Request) -> Updates:
        """Outputs: question, conversation, chatbot, ask button, stop button, notice, pair, panel."""
        return await self._choose("first", pair, conversation, request)

    async def right(self, pair: Pair | None, conversation: Conversation, request: gr.Request) -> Updates:
        """Outputs: as ``left``."""
        return await self._choose("second", pair, conversation, request)

    async def neither(self, pair: Pair | None, conversation: Conversation, request: gr.Request) -> Updates:
        """Outputs: as ``left``."""
        return await self._choose("tie", pair, conversation, request)

    async def close(self) -> Updates:
        """Something else goes on. Outputs: question, pair, panel."""
        return _writable(), None, _folded()

    async def _choose(
        self, side: Side, pair: Pair | None, conversation: Conversation, request: gr.Request
    ) -> Updates:
        if pair is None or pair.comparison_id is None:
            return gr.skip(), conversation, *[gr.skip()] * 4, pair, gr.skip()
        try:
            await self._api.choose(credential(request), pair.comparison_id, side)
        except ApiError as error:
            return gr.skip(), conversation, *[gr.skip()] * 3, notice(str(error)), pair, gr.skip()
        conversation.turns.append(pair.answers[side == "second"])
        thanks = notice(_THANKS[side], "fact")
        return _writable(), conversation, whole(conversation), *busy(False), thanks, None, _folded()

    async def _on_trial(self, model: str | None, bearer: str | None) -> tuple[str, str] | None:
        """Champion (or base) and candidate of the bot ``model``, drawn in the order to show them."""
        if not model or "@" in model:
            return None
        try:
            bot = await self._api.bot(bearer, model)
        except ApiError:  # a base model, or control is away: then there is nothing to compare
            return None
        if bot["candidate"] is None:
            return None
        champion = bot["base"] if bot["champion"] is None else f"{model}@{bot['champion']}"
        first, second = _RANDOM.sample([champion, f"{model}@{bot['candidate']}"], 2)
        return first, second

    async def _stream(
        self, conversation: Conversation, pair: Pair, bearer: str | None
    ) -> AsyncIterator[None]:
        """Both at once; yields as often as is worth drawing."""
        messages = conversation.messages()
        asking = [
            asyncio.create_task(self._answer(conversation.id, messages, model, answer, bearer))
            for model, answer in zip(pair.models, pair.answers, strict=True)
        ]
        try:
            while not all(task.done() for task in asking):
                await asyncio.wait(asking, timeout=SECONDS_BETWEEN_UPDATES)
                _raise(asking)
                yield
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    async def _answer(
        self,
        conversation_id: str,
        messages: list[dict[str, str]],
        model: str,
        answer: Turn,
        bearer: str | None,
    ) -> None:
        pieces = self._api.chat(bearer, model=model, messages=messages, conversation_id=conversation_id)
        async for piece in pieces:
            answer.text += piece.text
            answer.completion_id, answer.model = piece.completion_id, piece.model


def _raise(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Raise what one of them ended with."""
    for task in tasks:
        if task.done():
            task.result()


def _withdrawn(conversation: Conversation, sentence: str) -> Updates:
    question = gr.update(value=take_back(conversation), interactive=True, placeholder="Write a message")
    start = (question, conversation, whole(conversation), gr.skip(), *busy(False), notice(sentence))
    return (*start, None, _folded(), *[gr.skip()] * 5)


def _drawn(pair: Pair) -> Updates:
    return pair.texts()


def _choosable(choosable: bool) -> Updates:
    return tuple(gr.update(interactive=choosable) for _ in range(3))


def _waiting() -> Updates:
    """Neither asking nor stopping: a choice is due."""
    return gr.update(visible=shown(False)), gr.update(visible=shown(False))


def _writable() -> Update:
    return gr.update(interactive=True, placeholder="Write a message")


def _folded() -> Update:
    return gr.update(elem_classes=folded(True))
