import time

import httpx
import pytest

from common.errors import NOT_RETRIED, UserError
from common.names import VersionName
from common.registry import Registry, RegistryRefused, RegistryUnavailable, VersionTags

TAGS = VersionTags(
    base="SmolLM2-135M-Instruct",
    revision="sha256:00",
    method="lora",
    rank=16,
    sha256="ab" * 32,
    dataset_digest="sha256:11",
    run_id="0123456789abcdef",
    figures={"train_loss": 1.25},
)


@pytest.fixture(scope="module")
def registry(mlflow_url: str) -> Registry:
    return Registry(mlflow_url)


def test_a_version_is_listed_only_once_its_files_are_there(registry: Registry) -> None:
    name = registry.create_version("two-step", TAGS)
    assert name == VersionName("two-step", 1)
    assert registry.list("two-step") == []
    assert [version.name for version in registry.list("two-step", unfinished=True)] == [name]
    registry.complete(name, "file:///store/adapters/two-step/1")
    (version,) = registry.list("two-step")
    assert version.tags == TAGS
    assert version.files == "file:///store/adapters/two-step/1"
    assert abs(version.created_at - time.time()) < 600
    assert registry.get(name) == version
    assert version in registry.list()


def test_numbers_go_up_and_are_never_given_twice(registry: Registry) -> None:
    first, second = (registry.create_version("counting", TAGS) for _ in range(2))
    registry.delete(second)
    registry.delete(second)
    assert registry.get(second) is None
    assert registry.create_version("counting", TAGS).number == 3
    assert [version.name.number for version in registry.list("counting", unfinished=True)] == [1, 3]
    assert first.number == 1


def test_versions_come_in_pages_and_in_order(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.registry.PAGE", 2)
    for _ in range(5):
        registry.create_version("paged", TAGS)
    numbers = [version.name.number for version in registry.list("paged", unfinished=True)]
    assert numbers == [1, 2, 3, 4, 5]


def test_aliases_follow_the_served_row(registry: Registry) -> None:
    for _ in range(2):
        registry.create_version("mirrored", TAGS)
    registry.mirror("mirrored", champion=1, candidate=2)
    assert registry.aliases("mirrored") == {"champion": 1, "candidate": 2}
    registry.mirror("mirrored", champion=2, candidate=None)
    assert registry.aliases("mirrored") == {"champion": 2}
    registry.mirror("unheard-of", champion=None, candidate=None)


def test_what_others_keep_in_the_same_mlflow_is_left_alone(registry: Registry) -> None:
    api = f"{registry.url}/api/2.0/mlflow"
    for name in ("somebody-elses", "Not A Bot"):
        httpx.post(f"{api}/registered-models/create", json={"name": name}).raise_for_status()
        body = {"name": name, "source": "s3://bucket/model"}
        httpx.post(f"{api}/model-versions/create", json=body).raise_for_status()
    assert not {"somebody-elses", "Not A Bot"} & {v.name.bot for v in registry.list(unfinished=True)}
    assert registry.get(VersionName("somebody-elses", 1)) is None


def test_mlflow_away_is_one_sentence_within_seconds() -> None:
    started = time.monotonic()
    with pytest.raises(
        RegistryUnavailable, match=r"MLflow does not answer at http://127\.0\.0\.1:9 .*start it"
    ) as away:
        Registry("http://127.0.0.1:9").list()
    assert time.monotonic() - started < 5
    assert away.value.exit_code not in NOT_RETRIED


def test_a_name_that_mlflow_does_not_allow_says_which_setting(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = httpx.Client.request
    monkeypatch.setattr(
        httpx.Client, "request", lambda *a, **k: request(*a, headers={"Host": "mlflow.onggi.svc:5050"}, **k)
    )
    with pytest.raises(RegistryRefused, match="MLFLOW_SERVER_ALLOWED_HOSTS") as refused:
        registry.list()
    assert refused.value.exit_code in NOT_RETRIED


def test_only_a_server_is_a_registry() -> None:
    with pytest.raises(UserError, match=r"MLFLOW_TRACKING_URI = 'sqlite:///mlflow\.db'"):
        Registry("sqlite:///mlflow.db")
