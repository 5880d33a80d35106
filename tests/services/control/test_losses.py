"""Which of a dataset's erased sources a version had learned from."""

from typing import Any

import pytest

from services.database.tables import Dataset, Version
from tests.services.control.conftest import BASE, House
from tests.services.control.test_erasing import BOT, Team, erase

DIGEST = "sha256:told"


async def mark(house: House, **source: Any) -> bool:
    """Whether a version is marked whose dataset loses this source of Ben's, beside one that stays."""
    team = Team(house)
    await team.fill()
    common = {"kind": "feedback", "conversation_key": "k", "held_out": False, "learned": True}
    cleos = common | {"id": "fb_cleo", "person_id": team.cleo}
    async with house.database.session() as session:
        file = team._file(session, "file-told")
        session.add(
            Dataset(digest=DIGEST, bot=BOT, person_id=team.cleo, training_file=file, validation_file=file,
                    sources=[cleos, source | {"person_id": team.ben, "conversation_key": "b"}], figures={})
        )  # fmt: skip
        session.add(
            Version(bot=BOT, number=9, person_id=team.cleo, base=BASE, revision="r", rank=8, sha256="s",
                    state="passed", dataset_digest=DIGEST)
        )  # fmt: skip
    told = await erase(team, f"/onggi/v1/people/{team.ben}/words")
    assert DIGEST in told["datasets"]
    assert "files/file-told" not in team.store.list("files")
    return f"{BOT}@9" in told["versions"]


FEEDBACK, CHOICE = {"kind": "feedback", "id": "fb_ben"}, {"kind": "comparison", "id": "cmp_ben"}


@pytest.mark.parametrize(
    ("source", "marked"),
    [
        (FEEDBACK | {"held_out": False, "learned": True}, True),
        (FEEDBACK | {"held_out": False, "learned": False}, False),
        (FEEDBACK | {"held_out": True, "learned": False}, False),
        (CHOICE | {"held_out": False, "learned": False}, False),
        (FEEDBACK | {"held_out": False}, True),  # of an earlier release: it may have been
        (FEEDBACK | {"held_out": False, "learned": None}, True),
        (CHOICE | {"held_out": False}, False),
    ],
)
async def test_only_what_was_in_the_training_file_was_learned(
    house: House, source: dict[str, Any], marked: bool
) -> None:
    assert await mark(house, **source) is marked
