"""Lineage, both ways: answer -> version -> run -> dataset -> the ratings it was made of, and back.

Each function gives the nodes that hang on one thing. Upwards it ends at the ratings, for they name the
answers that they are about, whose lineage is the next question.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from common.names import VersionName
from common.openai_errors import not_found
from services.control import lineage_nodes as nodes
from services.control.lineage_nodes import once
from services.control.shapes.lineage import Lineage, Node
from services.database.credentials import Caller
from services.database.queries import lineage as queries
from services.database.queries import versions
from services.database.tables import Comparison, Completion, Dataset, Feedback, Version


@dataclass(frozen=True)
class _Look:
    """Who looks, and how much of what is many they get named."""

    session: AsyncSession
    caller: Caller
    limit: int

    @property
    def whose(self) -> str | None:
        """Whose answers and ratings are named; None: everybody's."""
        return None if self.caller.is_owner else self.caller.person_id

    def may_see(self, person_id: str) -> bool:
        """Whether something of ``person_id`` may be named."""
        return self.whose in (None, person_id)


async def trace(session: AsyncSession, caller: Caller, id_: str, limit: int) -> Lineage:
    """The lineage of an answer, a version (by its name, fine-tune or run), a rating or a dataset's digest.

    Raises:
        OpenAIError: 404, there is none of that id that the caller may see.
    """
    look = _Look(session, caller, limit)
    find: Callable[[_Look, str], Awaitable[Lineage | None]] = _of_completion
    if VersionName.parse(id_) is not None or id_.startswith("ftjob-"):
        find = _of_version
    elif id_.startswith("sha256:"):
        find = _of_dataset
    elif id_.startswith(("fb_", "cmp_")):
        find = _of_rating
    found = await find(look, id_) or await _of_version(look, id_)  # a run's id has no mark of its own
    if found is None:
        raise not_found(
            f"No lineage of {id_[:100]!r}: give a completion's id, a version such as support-bot@7, a run, a "
            "fine-tune, a rating (fb_..., cmp_...) or a dataset's digest (sha256:...) that you may see.",
            "id",
        )
    return found


async def _of_completion(look: _Look, id_: str) -> Lineage | None:
    row = await look.session.get(Completion, id_)
    if row is None or not look.may_see(row.person_id):
        return None
    said = await queries.feedback_on(look.session, id_)
    compared = await queries.comparisons_with(look.session, id_)
    shadows = [nodes.completion(shadow, id_) for shadow in await queries.shadows_of(look.session, id_)]
    led_to = [*map(nodes.feedback, said), *map(nodes.comparison, compared), *shadows]
    ratings: list[Feedback | Comparison] = [*said, *compared]
    for rating in ratings:
        led_to += await _learned(look, rating.bot or row.bot, rating.id)
    return Lineage(of=nodes.completion(row), came_from=await _behind(look, row), led_to=once(led_to))


async def _of_version(look: _Look, id_: str) -> Lineage | None:
    name = VersionName.parse(id_)
    if name is None:
        row = await queries.version_by(look.session, id_)
    else:
        row = await versions.get(look.session, name.bot, name.number)
    if row is None:
        return None
    answers, count = await queries.answers_of(look.session, row, look.whose, look.limit)
    of = nodes.version(row)
    of.facts["answers"] = count
    led_to = [Node(kind="completion", id=answer) for answer in answers]
    return Lineage(of=of, came_from=await _training(look, row, None), led_to=led_to)


async def _of_dataset(look: _Look, id_: str) -> Lineage | None:
    rows = await queries.datasets(look.session, id_)
    made = await queries.versions_of(look.session, id_)
    if not rows and not made:
        return None
    came_from = [node for row in rows for node in await _ratings(look, row, None)]
    of = await _dataset(look, id_, rows)
    return Lineage(of=of, came_from=once(came_from), led_to=[nodes.version(row) for row in made])


async def _of_rating(look: _Look, id_: str) -> Lineage | None:
    row: Feedback | Comparison | None
    if id_.startswith("fb_"):
        row = await look.session.get(Feedback, id_)
    else:
        row = await look.session.get(Comparison, id_)
    if row is None:
        return await _of_erased(look, id_)
    if not look.may_see(row.person_id):
        return None
    about = [row.completion_id] if isinstance(row, Feedback) else [row.first_id, row.second_id]
    came_from: list[Node] = []
    for completion_id in about:
        answer = await look.session.get(Completion, completion_id or "")
        if answer is not None:
            came_from += [nodes.completion(answer, row.id), *await _answerer(look, answer)]
    of = nodes.feedback(row) if isinstance(row, Feedback) else nodes.comparison(row)
    return Lineage(of=of, came_from=once(came_from), led_to=await _learned(look, row.bot, row.id))


async def _of_erased(look: _Look, id_: str) -> Lineage | None:
    """A rating that is gone is still named by the datasets that it was in."""
    if look.whose is not None:
        return None
    rows = await queries.datasets_of(look.session, None, id_)
    if not rows:
        return None
    of = Node(kind="feedback" if id_.startswith("fb_") else "comparison", id=id_, facts={"there": False})
    led_to = [node for row in rows for node in await _dataset_and_versions(look, row, id_)]
    return Lineage(of=of, came_from=[], led_to=once(led_to))


async def _behind(look: _Look, row: Completion) -> list[Node]:
    """What an answer came from."""
    found = await _answerer(look, row)
    if row.version is not None and row.bot is not None:
        version = await versions.get(look.session, row.bot, row.version)
        found += await _training(look, version, f"{row.bot}@{row.version}") if version else []
    if row.prompt_version:
        found.append(Node(kind="prompt", id=row.prompt_version, of=row.id))
    if row.trace_id:
        found.append(Node(kind="trace", id=row.trace_id, of=row.id))
    if row.shadow_of:
        found.append(Node(kind="completion", id=row.shadow_of, of=row.id, facts={"shown_instead": True}))
    return found


async def _answerer(look: _Look, row: Completion) -> list[Node]:
    """The version or the base that gave an answer."""
    if row.version is None or row.bot is None:
        return [Node(kind="base", id=row.model, of=row.id, facts={"bot": row.bot})]
    version = await versions.get(look.session, row.bot, row.version)
    return [nodes.version(version, row.id)] if version else []


async def _training(look: _Look, row: Version, of: str | None) -> list[Node]:
    """What a version came from: its run, its fine-tune, its dataset, the ratings in it."""
    found = [Node(kind="base", id=row.base, of=of, facts={"revision": row.revision})]
    if row.run_id:
        found.append(Node(kind="run", id=row.run_id, of=of))
    if row.job_id:
        found.append(Node(kind="job", id=row.job_id, of=of))
    if not row.dataset_digest:
        return found
    rows = [each for each in await queries.datasets(look.session, row.dataset_digest) if each.bot == row.bot]
    found.append(await _dataset(look, row.dataset_digest, rows, row.run_id or of))
    for dataset in rows:
        found += await _ratings(look, dataset, dataset.digest)
    return found


async def _learned(look: _Look, bot: str | None, rating_id: str) -> list[Node]:
    """The datasets that a rating went into, and the versions trained on them."""
    rows = await queries.datasets_of(look.session, bot, rating_id)
    return once([node for row in rows for node in await _dataset_and_versions(look, row, rating_id)])


async def _dataset_and_versions(look: _Look, row: Dataset, of: str | None = None) -> list[Node]:
    made = await queries.versions_of(look.session, row.digest, row.bot)
    return [await _dataset(look, row.digest, [row], of), *(nodes.version(each, row.digest) for each in made)]


async def _dataset(look: _Look, digest: str, rows: Sequence[Dataset], of: str | None = None) -> Node:
    there = await queries.existing(look.session, [source["id"] for row in rows for source in row.sources])
    return nodes.dataset(digest, rows, there, of)


async def _ratings(look: _Look, row: Dataset, of: str | None) -> list[Node]:
    """The first ratings of a dataset that the caller may be told of."""
    seen = [source for source in row.sources if look.may_see(source["person_id"])][: look.limit]
    there = await queries.existing(look.session, [source["id"] for source in seen])
    return [nodes.source(source, there, of) for source in seen]
