"""A release is installed, chats, is upgraded, rolled back, removed and installed again, and loses nothing."""

import pytest

from tests.e2e import next_release
from tests.e2e.conftest import BASE, NAMESPACE, RELEASE, Onggi
from tests.e2e.kube import until


def test_helm_test_chats_through_the_gateway(onggi: Onggi) -> None:
    said = onggi.kube.helm("test", RELEASE, "--logs", "--timeout", "5m")
    assert "Succeeded" in said


@pytest.mark.parametrize("key", ["secrets.existingSecret", "ingress.tls.existingSecret"])
def test_a_secret_that_is_not_there_fails_at_install_by_its_key(onggi: Onggi, key: str) -> None:
    wrong = Onggi(onggi.kube, onggi.values | {key: "nobodys"}, "wrong")
    said = onggi.kube.refused("helm", "install", *wrong.arguments())
    assert f"{key} names Secret nobodys, and namespace {NAMESPACE} has none of that name" in said


def test_the_sdk_chats_streamed_and_whole(onggi: Onggi) -> None:
    client = onggi.sdk()
    question = [{"role": "user", "content": "What is the capital of France?"}]
    whole = client.chat.completions.create(model=BASE, messages=question, max_tokens=24, temperature=0)
    assert "Paris" in (whole.choices[0].message.content or "")
    assert whole.usage
    assert whole.usage.completion_tokens > 0
    chunks = list(
        client.chat.completions.create(
            model=BASE, messages=question, max_tokens=24, temperature=0, stream=True
        )
    )
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert streamed == whole.choices[0].message.content
    assert len(chunks) > 3


def test_every_pod_runs_restricted_and_only_control_has_a_token(onggi: Onggi) -> None:
    labels = onggi.kube.get("namespace", NAMESPACE)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    pods = onggi.kube.items("pods", f"app.kubernetes.io/instance={RELEASE}")
    assert {pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in pods} >= {
        *("gateway", "control", "ui", "vllm", "mlflow", "store-postgresql", "store-s3"),
    }
    with_token = {
        pod["metadata"]["labels"]["app.kubernetes.io/component"]
        for pod in pods
        if any("serviceAccountToken" in str(volume) for volume in pod["spec"]["volumes"])
    }
    assert with_token == {"control"}


def test_an_upgrade_and_a_rollback_keep_what_was_said(onggi: Onggi) -> None:
    client = onggi.sdk()
    asked = client.chat.completions.create(
        model=BASE, messages=[{"role": "user", "content": "Remember me."}], max_tokens=8, store=True
    )
    onggi.upgrade(gateway__defaultMaxTokens="128")
    assert onggi.sdk().chat.completions.retrieve(asked.id).id == asked.id
    onggi.kube.helm("rollback", RELEASE, "--wait", "--timeout", "10m")
    assert onggi.sdk().chat.completions.retrieve(asked.id).id == asked.id


@pytest.mark.full
def test_a_rollback_across_a_migration_keeps_what_was_said(onggi: Onggi) -> None:
    question = [{"role": "user", "content": "Remember me."}]
    before = onggi.sdk().chat.completions.create(model=BASE, messages=question, max_tokens=8, store=True)
    tags = next_release.build({name: onggi.values[f"{name}.image.tag"] for name in next_release.MIGRATED})
    onggi.upgrade(**{f"{name}__image__tag": tag for name, tag in tags.items()})
    assert revision(onggi) == next_release.REVISION
    since = onggi.sdk().chat.completions.create(model=BASE, messages=question, max_tokens=8, store=True)
    onggi.kube.helm("rollback", RELEASE, "--wait", "--timeout", "10m")
    assert revision(onggi) == next_release.REVISION, "the older image uses the newer database"
    for asked in (before, since):
        assert onggi.sdk().chat.completions.retrieve(asked.id).id == asked.id
    later = onggi.sdk().chat.completions.create(model=BASE, messages=question, max_tokens=8, store=True)
    assert onggi.sdk().chat.completions.retrieve(later.id).id == later.id


def revision(onggi: Onggi) -> str:
    """The migration that the database is at."""
    return onggi.kube.sql("onggi-store-postgresql-0", "onggi", "select version_num from alembic_version")


@pytest.mark.full
def test_removed_and_installed_again_it_finds_its_history(onggi: Onggi) -> None:
    asked = onggi.sdk().chat.completions.create(
        model=BASE, messages=[{"role": "user", "content": "Remember me."}], max_tokens=8, store=True
    )
    key = onggi.owner_key
    onggi.kube.helm("uninstall", RELEASE, "--wait", "--timeout", "5m")
    until(lambda: not onggi.kube.items("pods"), 120, "a namespace without pods")
    ours = f"app.kubernetes.io/instance={RELEASE}"
    assert {kind: onggi.kube.names(kind, ours) for kind in ("pvc", "secrets")} == {
        "pvc": {"data-onggi-store-postgresql-0", "data-onggi-store-s3-0"},
        "secrets": {"onggi-secrets", "onggi-store-postgresql", "onggi-store-s3"},
    }, "what NOTES says is kept, and nothing else"
    onggi.kube.helm("install", *onggi.arguments("--wait", "--timeout", "15m"), timeout=1000)
    assert onggi.owner_key == key
    assert onggi.sdk().chat.completions.retrieve(asked.id).id == asked.id
