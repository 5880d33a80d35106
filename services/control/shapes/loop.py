"""What is learned from: examples, datasets, retrains, and how far a bot is from its next one."""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, field_validator

from services.control.shapes.base import Given, Seconds, Shown, Text
from services.database.queries.examples import Chosen, Said
from services.database.tables import Choice, Completion, FeedbackState, RetrainState

Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Message = dict[str, Any]


class FeedbackExample(Shown):
    """An opinion with the conversation and the answer that it is about."""

    kind: Literal["feedback"] = "feedback"
    id: str
    person_id: str
    conversation_key: str
    completion_id: str
    state: FeedbackState
    rating: int | None
    correction: str | None
    messages: list[Message]
    answer: Message
    tools: list[dict[str, Any]] | None

    @classmethod
    def of(cls, said: Said) -> "FeedbackExample":
        """From the rows."""
        row, completion = said
        return cls(
            id=row.id,
            person_id=row.person_id,
            conversation_key=row.conversation_key,
            completion_id=completion.id,
            state=row.state,
            rating=row.rating,
            correction=row.correction,
            messages=completion.messages or [],
            answer=_message(completion),
            tools=_tools(completion),
        )


class ComparisonExample(Shown):
    """A blind choice with the conversation and both answers, in the order in which they were shown."""

    kind: Literal["comparison"] = "comparison"
    id: str
    person_id: str
    conversation_key: str
    choice: Choice
    messages: list[Message]
    first: Message
    second: Message
    tools: list[dict[str, Any]] | None

    @classmethod
    def of(cls, chosen: Chosen) -> "ComparisonExample":
        """From the rows."""
        row, first, second = chosen
        assert row.choice is not None, "only what was chosen is an example"
        return cls(
            id=row.id,
            person_id=row.person_id,
            conversation_key=row.conversation_key,
            choice=row.choice,
            messages=first.messages or [],
            first=_message(first),
            second=_message(second),
            tools=_tools(first),
        )


def _message(completion: Completion) -> Message:
    """What was answered first, as one message; stored is OpenAI's list of choices."""
    choices = (completion.answer or {}).get("choices") or [{}]
    return dict(choices[0].get("message") or {})


def _tools(completion: Completion) -> list[dict[str, Any]] | None:
    return ((completion.request or {}).get("parameters") or {}).get("tools")


Example = Annotated[FeedbackExample | ComparisonExample, Field(discriminator="kind")]


class ExamplePage(Shown):
    """A page of examples, by last change; ``next`` is the cursor to go on from."""

    object: Literal["list"] = "list"
    data: list[Example]
    has_more: bool
    next: str | None = Field(description="send it as `after`")


class ReviewItem(Shown):
    """An answer that nobody said anything about; which version gave it is not told, so as not to sway."""

    object: Literal["review.item"] = "review.item"
    completion_id: str
    messages: list[Message]
    answer: Message
    created_at: Seconds

    @classmethod
    def of(cls, completion: Completion) -> "ReviewItem":
        """From the row."""
        return cls(
            completion_id=completion.id,
            messages=completion.messages or [],
            answer=_message(completion),
            created_at=completion.created_at,
        )


class Source(Given):
    """What one row of a dataset came from, by id.

    ``learned`` is whether it is in train.jsonl; what is only in preferences.jsonl or labels.jsonl trains
    nothing. None: a dataset of an earlier release did not say.
    """

    kind: Literal["feedback", "comparison"]
    id: str
    person_id: str
    conversation_key: str
    held_out: bool
    learned: bool | None = None


class Sides(Shown):
    """On which side the conversations of a bot's datasets are, by their keys, for every later dataset."""

    object: Literal["bot.sides"] = "bot.sides"
    bot: str
    learned: list[str]
    held_out: list[str]


FileName = Literal["train.jsonl", "heldout.jsonl", "preferences.jsonl", "labels.jsonl"]


class DatasetCreate(Given):
    """A dataset whose ``files`` are uploaded next; ``digest`` is the one of the training file's bytes.

    Each file's Idempotency-Key is to be ``<retrain_id>:<name>``: so its id is known before its words are
    here, and an erasure finds it whenever the upload is cut off.
    """

    digest: Digest
    bot: str
    retrain_id: str
    files: list[FileName]
    sources: list[Source]
    figures: dict[str, Any]

    @field_validator("files")
    @classmethod
    def _has_both_sides(cls, files: list[FileName]) -> list[FileName]:
        if not {"train.jsonl", "heldout.jsonl"} <= set(files):
            raise ValueError("a dataset has train.jsonl and heldout.jsonl")
        return files


class DatasetPublic(Shown):
    """A dataset: its files, what it came from, and its figures."""

    object: Literal["dataset"] = "dataset"
    digest: str
    bot: str
    training_file: str
    validation_file: str
    preference_file: str | None
    label_file: str | None
    sources: list[Source]
    figures: dict[str, Any]
    created_at: Seconds


class RetrainClaim(Given):
    """Who wants to train which bot on which dataset; ``force`` also on one that failed before.

    ``retrain_id`` is the claim that is gone on with: it may be gone, with words that were erased.
    """

    bot: str
    dataset_digest: Digest
    retrain_id: str | None = None
    force: bool = False
    author: Annotated[str, StringConstraints(min_length=1, max_length=200)] = "jobs.retrain"


class RetrainUpdate(Given):
    """How it went on: the fine-tune that it became, or why it became none."""

    state: RetrainState
    job_id: str | None = None
    reason: Text | None = None


class RetrainPublic(Shown):
    """One dataset of a bot that was, is or could not be trained on."""

    object: Literal["retrain"] = "retrain"
    id: str
    bot: str
    dataset_digest: str
    job_id: str | None
    state: RetrainState
    reason: str | None
    author: str
    created_at: Seconds
    updated_at: Seconds


class RetrainRequest(Given):
    """``force`` begins also outside the quiet hours, above the budget and below the minimum."""

    force: bool = False


class RetrainBegun(Shown):
    """A retrain was asked for: it looks at what people said, then makes a fine-tune, or says why not.

    What it made is at GET /onggi/v1/retrains and GET /onggi/v1/bots/{bot}/progress.
    """

    object: Literal["retrain.run"] = "retrain.run"
    id: str
    bot: str


class Progress(Shown):
    """How far a bot is from its next retrain."""

    object: Literal["bot.progress"] = "bot.progress"
    bot: str
    base: str
    corrections: int = Field(
        description="reviewed corrections that no version was trained on, nor is by a fine-tune under way"
    )
    needed: int
    sentence: str
    failed: str | None = Field(
        description="what became of the last retrain if it made no version, and the way out"
    )
    waiting_for_review: int
    erased: list[str] = Field(description="versions that were trained on words erased since")
    due_for_erasure: bool = Field(description="whether nothing was trained yet on what is left without them")
    under_way: str | None = Field(description="the fine-tune that runs now")
    gpu_hours: float = Field(description="of all fine-tunes of this month (UTC), judging included")
    last: RetrainPublic | None = Field(description="the last one that made a version, or may still")
