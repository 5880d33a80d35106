"""The chat page: its parts, and which handler each event calls."""

from pathlib import Path

import gradio as gr

from services.ui.chat import HIDDEN, Chat, folded
from services.ui.compare import Compare

LOOK = Path(__file__).parent / "look"
CSS = LOOK / "chat.css"
HEAD = LOOK / "late.html"
SECONDS_TO_TRY_AGAIN = 5
# In the browser's storage is only which conversation was open last; the credential is in a cookie.
BOOKMARK, BOOKMARK_SECRET = "onggi-conversation", "not-a-secret"

# One person's answer must not wait for another's: Gradio would run one event of a kind at a time.
EVERYBODY = {"concurrency_limit": None, "api_visibility": "private", "show_progress": "hidden"}

BRAND = '<div class="brand"><img src="/look/jar.svg" alt="" width="34" height="34" /><span>Onggi</span></div>'
EMPTY = """<div class="empty"><img src="/look/jar.svg" alt="" width="64" height="64" />
<h2>Ask away</h2>
<p>When an answer is wrong, put it right with the pencil. The next version learns from it.</p></div>"""
# On a phone the sidebar would lie over the conversation.
FOLD = "() => innerWidth < 768 && document.querySelector('.sidebar.open .toggle-button')?.click()"
LINK = "(token) => token ? `${location.origin}/?invite=${token}` : token"


def theme() -> gr.themes.Base:
    """Clay on paper, in the system's own fonts: nothing is fetched from elsewhere."""
    clay = gr.themes.Color(
        "#fbf3ee", "#f6e3d8", "#eccab5", "#dfa98a", "#cf8660", "#b9683f", "#9a4f2c", "#7c3d20", "#5c2c16",
        "#3d1c0e", "#241008",
    )  # fmt: skip
    fonts = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
    mono = ["ui-monospace", "SFMono-Regular", "Menlo", "monospace"]
    made = gr.themes.Base(primary_hue=clay, neutral_hue="stone", radius_size="lg", font=fonts, font_mono=mono)
    return made.set(
        body_background_fill="#f6f1ea",
        body_background_fill_dark="#191513",
        block_background_fill="#fffdfa",
        block_background_fill_dark="#221d1a",
        block_border_width="0px",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_text_color="white",
    )


def build(chat: Chat, compare: Compare) -> gr.Blocks:
    """The page with its events."""
    with gr.Blocks(title="Onggi", analytics_enabled=False, fill_height=True, fill_width=True) as page:
        Page(chat, compare).connect(page)
    return page


class Page:
    """The parts of one page."""

    def __init__(self, chat: Chat, compare: Compare) -> None:
        self.chat = chat
        self.compare = compare
        self.conversation = gr.State(None)  # a Conversation, from the page's load on
        self.pair = gr.State(None)  # a Pair, while one is open
        self.about = gr.State(None)
        self.again = gr.Timer(SECONDS_TO_TRY_AGAIN, active=False)  # runs while the page could not be filled
        self.bookmark = gr.BrowserState("", storage_key=BOOKMARK, secret=BOOKMARK_SECRET)
        with gr.Sidebar(width=280):
            self._sidebar()
        with gr.Column(elem_id="room"):
            self._room()

    def _sidebar(self) -> None:
        gr.HTML(BRAND)
        self.new = gr.Button("New conversation", variant="secondary", elem_id="new")
        self.past = gr.Radio([], show_label=False, container=False, visible=HIDDEN, elem_id="past")
        with gr.Column(elem_id="person"):
            self.invite = gr.Button("Invite somebody", size="sm", visible=HIDDEN, elem_id="invite")
            self.link = gr.Textbox(
                label="Works once, for 7 days",
                visible=HIDDEN,
                interactive=False,
                buttons=["copy"],
                elem_id="link",
            )
            self.who = gr.HTML()
            self.leave = gr.Button("Sign out", size="sm", elem_id="leave")

    def _room(self) -> None:
        self.models = gr.Dropdown([], show_label=False, container=False, elem_id="models", filterable=False)
        self.chatbot = gr.Chatbot(
            show_label=False, container=False, scale=1, elem_id="chat", placeholder=EMPTY, editable="all",
            layout="bubble", buttons=["copy"], allow_tags=False, height="100%",
            group_consecutive_messages=False,
        )  # fmt: skip
        self._two_answers()
        with gr.Row(elem_classes=folded(True), elem_id="opinion") as self.opinion:
            self.comment = gr.Textbox(
                placeholder="Say why, if you like",
                show_label=False,
                container=False,
                max_length=4000,
                scale=1,
            )
            self.tell = gr.Button("Add", size="sm", scale=0, min_width=80)
        self.notice = gr.HTML(visible=HIDDEN, elem_id="notice")
        with gr.Row(elem_id="asking", equal_height=True):
            self.question = gr.Textbox(
                placeholder="One moment", show_label=False, container=False, max_lines=8, scale=1,
                interactive=False, autofocus=True, elem_id="question",
            )  # fmt: skip
            self.both = gr.Button("Compare", scale=0, min_width=96, visible=HIDDEN, elem_id="both")
            self.ask = gr.Button("Send", variant="primary", scale=0, min_width=96, elem_id="ask")
            self.stop = gr.Button(
                "Stop", variant="stop", scale=0, min_width=96, visible=HIDDEN, elem_id="stop"
            )

    def _two_answers(self) -> None:
        self.sides, self.takes = [], []
        with gr.Column(elem_classes=folded(True), elem_id="pair") as self.panel:
            with gr.Row(elem_id="sides", equal_height=True):
                for place in ("left", "right"):
                    with gr.Column(elem_classes="side", min_width=220):
                        self.sides.append(gr.Markdown("…", elem_id=place, container=False))
                        take = gr.Button("This one is better", size="sm", elem_id=f"take-{place}")
                        self.takes.append(take)
            self.takes.append(gr.Button("No difference", size="sm", elem_id="tie"))

    def connect(self, page: gr.Blocks) -> None:
        """Connect the events."""
        chat, state = self.chat, self.conversation
        gr.on(
            [page.load, self.again.tick], chat.enter, self.bookmark,
            [state, self.chatbot, self.models, self.past, self.who, self.invite, self.notice,
             self.question, self.again], **EVERYBODY,
        )  # fmt: skip
        page.load(None, js=FOLD)
        asking = self._connect_asking()
        stopped = [self.question, state, self.chatbot, self.ask, self.stop]
        self.stop.click(chat.stop, state, stopped, cancels=asking, **EVERYBODY).then(
            self.compare.close, None, self._closed(), **EVERYBODY
        ).then(chat.list_past, state, self.past, **EVERYBODY)
        self.chatbot.like(chat.rate, state, [state, self.opinion, self.about, self.notice], **EVERYBODY)
        gr.on(
            [self.comment.submit, self.tell.click], chat.comment, [self.comment, self.about],
            [self.opinion, self.comment, self.notice], **EVERYBODY,
        )  # fmt: skip
        opened = [state, self.chatbot, self.bookmark, self.notice, self.opinion]
        for event in (
            self.past.input(chat.open, self.past, opened, cancels=asking, **EVERYBODY),
            self.new.click(chat.begin, None, [*opened, self.past], cancels=asking, **EVERYBODY),
        ):
            event.then(self.compare.close, None, self._closed(), **EVERYBODY).then(None, js=FOLD)
        self.invite.click(chat.invite, None, [self.link, self.notice], **EVERYBODY).then(
            None, self.link, self.link, js=LINK
        )
        self.leave.click(
            None, js="() => fetch('/sign-out', {method: 'POST'}).then(() => location.assign('/'))"
        )

    def _connect_asking(self) -> list[gr.events.Dependency]:
        chat, state = self.chat, self.conversation
        outputs = [
            self.question, state, self.chatbot, self.bookmark, self.ask, self.stop, self.notice, self.opinion,
        ]  # fmt: skip
        ask = gr.on([self.question.submit, self.ask.click], chat.ask, [self.question, state, self.models],
                    outputs, **EVERYBODY)  # fmt: skip
        again = [
            self.chatbot.retry(chat.retry, [state, self.models], outputs, **EVERYBODY),
            self.chatbot.edit(chat.edit, [state, self.models], outputs, **EVERYBODY),
        ]
        for event in again:
            event.then(self.compare.close, None, self._closed(), **EVERYBODY)
        for event in (ask, *again):
            event.then(chat.list_past, state, self.past, **EVERYBODY).then(
                self.compare.offer, self.models, self.both, **EVERYBODY
            )
        return [ask, *again, self._connect_comparing()]

    def _connect_comparing(self) -> gr.events.Dependency:
        compare, state = self.compare, self.conversation
        self.models.change(compare.offer, self.models, self.both, **EVERYBODY)
        outputs = [
            self.question, state, self.chatbot, self.bookmark, self.ask, self.stop, self.notice, self.pair,
            self.panel, *self.sides, *self.takes,
        ]  # fmt: skip
        chosen = [
            self.question, state, self.chatbot, self.ask, self.stop, self.notice, self.pair, self.panel,
        ]  # fmt: skip
        for button, choose in zip(self.takes, (compare.left, compare.right, compare.neither), strict=True):
            button.click(choose, [self.pair, state], chosen, **EVERYBODY).then(
                self.chat.list_past, state, self.past, **EVERYBODY
            )
        return self.both.click(compare.ask, [self.question, state, self.models], outputs, **EVERYBODY)

    def _closed(self) -> list[gr.blocks.Block]:
        return [self.question, self.pair, self.panel]
