"""The profiles that are parts of the platform, or need two cards, beside an installation of all of it.

There is no GPU here: pods ask for the cards that the profile names, and compute on the processor.
"""

import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from common.names import VersionName
from common.registry import VersionTags
from services.control import repair
from tests.e2e.cluster import change
from tests.e2e.conftest import BASE, CHART, NAMESPACE, Onggi, trusted
from tests.e2e.fine_tunes import create, ended, loaded, upload
from tests.e2e.kube import Kube, until
from tests.e2e.namespaces import restricted
from tests.e2e.standing import USER, database

pytestmark = pytest.mark.full
TWIN = "SmolLM2-135M-Twin"
TAGS = VersionTags(base=BASE, revision="sha256:0", method="lora", rank=8, sha256="sha256:1", job_id="none")
NEVER = "0 0 31 2 *"
RESOURCES = {"requests.cpu": "100m", "requests.memory": "1Gi", "limits.cpu": "2", "limits.memory": "6Gi"}


@pytest.fixture(scope="module", autouse=True)
def two_cards(onggi: Onggi) -> Iterator[None]:
    """The node has two cards, and there is no other node."""
    change("remove", "fleet")
    change("gpus", "2", "--card", "rtx5090")
    yield
    change("gpus", "1", "--card", "rtx5090")


def profile(kube: Kube, onggi: Onggi, name: str, servers: dict[str, str], **values: str) -> Onggi:
    """A release of a profile with ``onggi``'s images, these models by server, and less of everything."""
    images = {key: value for key, value in onggi.values.items() if "image" in key}
    computing = [*(f"vllm.servers.{server}" for server in servers), "jobs.finetune", "jobs.evaluate"]
    small = {f"{part}.resources.{key}": value for part in computing for key, value in RESOURCES.items()}
    for server, model in servers.items():
        small |= {
            f"vllm.servers.{server}.{key}": value
            for key, value in {"model": model, "maxModelLen": "1024", "flags": "{--dtype=bfloat16}"}.items()
        }
    return Onggi(
        kube,
        {
            **images,
            **small,
            "vllm.image.variant": "cpu",
            "jobs.image.variant": "cpu",
            "vllm.defaults.runtimeClassName": "",
            "jobs.runtimeClassName": "",
            "global.caBundle.configMap": "ca-bundle",
            **{key.replace("__", "."): value for key, value in values.items()},
        },
        name,
        (CHART / "values" / f"{name}.yaml",),
    )


def install(release: Onggi) -> None:
    release.kube.helm("install", *release.arguments("--wait", "--timeout", "10m"), timeout=700)
    said = release.kube.helm("test", release.release, "--logs", "--timeout", "5m")
    assert "Succeeded" in said


def test_only_mlflow_keeps_versions_in_a_database_of_the_teams_own(onggi: Onggi) -> None:
    with restricted(onggi.kube, "only-mlflow") as kube:
        trusted(kube)
        image = f"{onggi.values['store.postgresql.image.repository']}:18.6-trixie"
        kube.apply(database(kube.namespace, image))
        kube.kubectl("wait", "pod/postgresql", "--for=condition=Ready", "--timeout=120s", timeout=130)
        ours = {"store__postgresql__enabled": "false", "store__postgresql__existingSecret": "database"}
        release = profile(kube, onggi, "only-mlflow", {}, **ours)
        install(release)
        with release.registry() as registry:
            version = registry.create_version("support-bot", TAGS)
            registry.complete(version, "s3://onggi/adapters/support-bot/1")
        kube.kubectl("delete", "pod", kube.pods("mlflow")[0]["metadata"]["name"])
        deployment = f"deployment/{release.fullname}-mlflow"
        kube.kubectl("rollout", "status", deployment, "--timeout=180s", timeout=190)
        with release.registry() as registry:
            assert [one.name for one in registry.list()] == [version]
        assert kube.sql("postgresql", USER, "select count(*) from model_versions") == "1"


@pytest.fixture(scope="module")
def trained(onggi: Onggi) -> str:
    """A version that the whole platform has trained, and is champion there."""
    done = ended(onggi, create(onggi, upload(onggi, learned=8), "shared-bot").id)
    assert done["status"] == "succeeded", done
    return promoted(onggi, str(done["fine_tuned_model"]))


def promoted(onggi: Onggi, version: str) -> str:
    bot, _, _ = version.partition("@")
    generation = onggi.control("GET", f"/onggi/v1/bots/{bot}").json()["generation"]
    decision = {"version": version, "generation": generation, "force": True, "reason": "a test"}
    served = onggi.control("POST", f"/onggi/v1/bots/{bot}/promote", decision)
    assert served.is_success, served.text
    return version


def answers_as(onggi: Onggi, model: str) -> str:
    """Which model says that it answered."""
    question: Any = [{"role": "user", "content": "What do you sell?"}]
    return onggi.sdk().chat.completions.create(model=model, messages=question, max_tokens=4).model


def test_only_serving_serves_what_another_installation_trained_and_leaves_that_one_alone(
    onggi: Onggi, trained: str
) -> None:
    name = VersionName.parse(trained)
    assert name
    onggi.upgrade(
        **{r"networkPolicy__readers[0]__namespaceLabels__kubernetes\.io/metadata\.name": "only-serving"}
    )
    with restricted(onggi.kube, "only-serving") as kube:
        trusted(kube)
        keys = onggi.kube.get("secret", "onggi-store-s3")
        kube.apply({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "onggi-store-s3"}, "data": keys["data"]
        })  # fmt: skip
        release = profile(
            kube,
            onggi,
            "only-serving",
            {"main": BASE},
            mlflow__url=f"http://onggi-mlflow.{NAMESPACE}.svc:5050",
            store__s3__enabled="false",
            store__s3__existingSecret="onggi-store-s3",
            store__s3__endpoint=f"http://onggi-store-s3.{NAMESPACE}.svc:8333",
        )
        install(release)
        until(
            lambda: release.control("GET", f"/onggi/v1/versions/{trained}").is_success, 60, f"{trained} there"
        )
        champion = {"champion": name.number}
        with onggi.registry() as registry:  # the reader serves the base until now
            until(lambda: registry.aliases(name.bot) == champion, 60, "the champion's alias")
            over = time.monotonic() + 2 * repair.SECONDS
            while time.monotonic() < over:
                assert registry.aliases(name.bot) == champion
                time.sleep(1)
        promoted(release, trained)
        until(lambda: answers_as(release, name.bot) == trained, 30, f"{trained}, which is loaded first,")
        kube.helm("uninstall", release.release, "--wait", "--timeout", "5m")


def put_twin(kube: Kube, onggi: Onggi) -> None:
    """A claim ``twin`` that holds SmolLM2 by another name, as two bases that differ in nothing else."""
    template = yaml.safe_load(onggi.kube.get("configmap", "onggi-jobs")["data"]["finetune.yaml"])
    spec = template["spec"]["template"]["spec"]
    [fetch] = spec["initContainers"]
    fetch["command"] = [
        "sh",
        "-ec",
        f"python -m jobs.download {BASE}; cp -r /models/{BASE} /tmp/{TWIN}; rm /tmp/{TWIN}/onggi.json; "
        f"python -m jobs.download /tmp/{TWIN}",
    ]
    [models] = [volume for volume in spec["volumes"] if volume["name"] == "models"]
    claim = models.pop("ephemeral")["volumeClaimTemplate"]["spec"]
    models["persistentVolumeClaim"] = {"claimName": "twin"}
    kept = {key: spec[key] for key in ("securityContext", "volumes")}
    pod = kept | {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [fetch]}
    kube.apply([
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "twin"}, "spec": claim},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "twin"}, "spec": pod},
    ])  # fmt: skip
    kube.kubectl(
        "wait", "pod/twin", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=300s", timeout=310
    )


def test_both_serves_two_bases_and_judges_what_is_trained_by_the_server_of_its_base(
    onggi: Onggi, without_main: None
) -> None:
    with restricted(onggi.kube, "both") as kube:
        trusted(kube)
        put_twin(kube, onggi)
        release = profile(
            kube,
            onggi,
            "both",
            {"large": BASE, "small": TWIN},
            vllm__servers__small__modelCache__existingClaim="twin",
            jobs__modelCache__existingClaim="twin",
            jobs__gpu="false",
            jobs__env__EVALUATE_REGRESSION="jobs/samples/heldout.jsonl",
            jobs__retrain__schedule=NEVER,
            jobs__promote__schedule=NEVER,
        )
        install(release)
        for base in (BASE, TWIN):
            assert answers_as(release, base) == base
        done = ended(release, create(release, upload(release, learned=8), "twin-bot", TWIN).id)
        assert done["status"] == "succeeded", done
        version = str(done["fine_tuned_model"])
        judged = release.control("GET", f"/onggi/v1/versions/{version}").json()
        assert judged["sentence"], judged
        promoted(release, version)
        until(lambda: answers_as(release, "twin-bot") == version, 30, f"{version}, which is loaded first,")
        have = {
            pod["metadata"]["labels"]["onggi.dev/server"]: loaded(pod["status"]["podIP"])
            for pod in kube.pods("vllm")
        }
        assert version in have["small"]
        assert version not in have["large"]
        kube.helm("uninstall", release.release, "--wait", "--timeout", "5m")
