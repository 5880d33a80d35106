import pytest

from common.errors import UserError
from common.names import LARGEST_NUMBER, VersionName, check_bot_name, is_bot_name


@pytest.mark.parametrize("name", ["a", "7", "support-bot", "a" * 40, "a--b"])
def test_a_bot_is_lower_case_letters_digits_and_hyphens(name: str) -> None:
    assert is_bot_name(name)
    assert check_bot_name(name) == name


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a_b", "a@1", "a" * 41, "a\n", "é", "a/b", ".."])
def test_anything_else_is_refused_with_a_sentence(name: str) -> None:
    assert not is_bot_name(name)
    with pytest.raises(UserError, match="is not a name: use 1 to 40 lower-case letters"):
        check_bot_name(name)


def test_a_version_reads_as_it_is_written() -> None:
    version = VersionName.parse("support-bot@7")
    assert version == VersionName("support-bot", 7)
    assert str(version) == "support-bot@7"
    assert version is not None
    assert version.folder == "adapters/support-bot/7"


@pytest.mark.parametrize(
    "text",
    ["support-bot", "support-bot@", "@7", "b@0", "b@07", "b@-1", "b@7 ", "b@7\n", "b@٧", "B@7"],
)
def test_what_is_not_a_version_parses_to_none(text: str) -> None:
    assert VersionName.parse(text) is None


def test_a_number_that_postgresql_cannot_hold_is_no_version() -> None:
    assert VersionName.parse(f"b@{LARGEST_NUMBER}") is not None
    assert VersionName.parse(f"b@{LARGEST_NUMBER + 1}") is None
    with pytest.raises(ValueError, match="do not make a version's name"):
        VersionName("b", LARGEST_NUMBER + 1)


def test_versions_of_a_bot_sort_by_number() -> None:
    names = [VersionName("b", 10), VersionName("b", 9), VersionName("a", 11)]
    assert sorted(names) == [VersionName("a", 11), VersionName("b", 9), VersionName("b", 10)]
