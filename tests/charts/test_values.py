"""Values: profiles pass schema and lint; wrong ones are refused with a sentence that names the key."""

import json

import pytest
import yaml

from tests.charts.rendering import CHART, PROFILES, refused, render, run


def test_lint_has_nothing_to_say() -> None:
    ran = run("lint", str(CHART), "-f", str(CHART / "values/cpu.yaml"), "-f", str(CHART / "values/ci.yaml"))
    assert ran.returncode == 0, ran.stdout
    assert "[WARNING]" not in ran.stdout, ran.stdout


@pytest.mark.parametrize("profile", PROFILES)
def test_each_profile_renders(profile: str) -> None:
    assert render(profile)


def test_each_profile_is_known_here() -> None:
    assert {path.stem for path in (CHART / "values").glob("*.yaml")} == {*PROFILES, "ci"}


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("gateway.replcas=2", "replcas"),
        ("vllm.servers.main.maxLora=3", "maxLora"),
        ("store.s3.buckt=x", "buckt"),
        ("nothing=1", "nothing"),
        ("gateway.replicas=zero", "/gateway/replicas"),
        ("vllm.servers.main.maxLoras=2", "/vllm/servers/main/maxLoras"),
        ("vllm.servers.main.maxLoraRank=24", "/vllm/servers/main/maxLoraRank"),
        ("mlflow.url=mlflow:5050", "/mlflow/url"),
    ],
)
def test_the_schema_names_the_key_that_is_wrong(value: str, key: str) -> None:
    assert key in refused("cpu", value)


# Profile, values, and the sentence's beginning.
WRONG_TOGETHER = """
cpu | global.imageRegistry= | global.imageRegistry is empty: push the images with `make images-push
cpu | ingress.tls.existingSecret=a ingress.tls.certManager.issuer=b | ingress.tls.existingSecret and
cpu | ingress.tls.existingSecret=a | ingress.hosts is empty
cpu | huggingface.token=a huggingface.existingSecret=b | huggingface.token and
cpu | vllm.servers=null | vllm.servers is empty: start from a profile
cpu | vllm.servers.main.model= | vllm.servers.main.model is empty
cpu | mlflow.enabled=false | jobs.enabled is true, mlflow.enabled is false and mlflow.url is empty
cpu | control.enabled=false | jobs.enabled is true and control.enabled is false
cpu | store.postgresql.enabled=false store.postgresql.existingSecret= | store.postgresql.existingSecret is
cpu | store.s3.enabled=false store.s3.existingSecret= | store.s3.existingSecret is empty
cpu | httpRoute.enabled=true | httpRoute.parentRefs is empty
cpu | vllm.defaults.autoscaling.enabled=true vllm.defaults.autoscaling.kind=keda | autoscaling.kind is keda
front | vllm.external.url= | vllm.external.url is empty
rtx5090 | vllm.servers.main.replicas=2 | vllm.servers.main may grow to 2 replicas of 1 card(s) each
only-mlflow | ui.enabled=true | ui.enabled is true
"""


@pytest.mark.parametrize("case", WRONG_TOGETHER.strip().splitlines())
def test_values_that_are_wrong_together_are_refused_with_a_sentence(case: str) -> None:
    profile, values, sentence = (part.strip() for part in case.split("|"))
    assert sentence in refused(profile, *values.split())


@pytest.mark.parametrize(
    "key", ["secrets.existingSecret", "store.postgresql.existingSecret", "store.s3.existingSecret"]
)
def test_without_a_cluster_no_secret_is_made_up(key: str) -> None:
    assert f"{key} is empty, and without a cluster nobody can look" in refused("cpu", f"{key}=")


def test_without_values_for_checks_it_is_a_sentence_too() -> None:
    assert "existingSecret is empty" in refused("cpu", "global.localImages=true", ci=False)


def test_images_on_every_node_need_no_registry() -> None:
    (image,) = {
        manifest["spec"]["template"]["spec"]["containers"][0]["image"]
        for manifest in render("cpu", "global.imageRegistry=", "global.localImages=true")
        if manifest["kind"] == "Deployment" and manifest["metadata"]["name"] == "onggi-gateway"
    }
    assert image == "onggi-gateway:0.1.0"


def test_llama_is_one_value_and_a_token() -> None:
    values = ("vllm.servers.main.model=meta-llama/Llama-3.1-8B-Instruct@0e9e39f", "huggingface.token=hf_x")
    text = json.dumps(render("rtx5090", *values))
    assert "meta-llama/Llama-3.1-8B-Instruct" in text
    assert "0e9e39f" in text
    assert "HUGGINGFACE_TOKEN" in text


def test_every_default_is_described_and_every_key_is_in_the_values() -> None:
    schema = yaml.safe_load((CHART / "values.schema.yaml").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert schema["properties"].keys() == values.keys()
    undescribed = [key for key, node in walk(schema, schema) if not node.get("description")]
    assert not undescribed


def walk(schema: dict, node: dict, path: str = ""):  # type: ignore[no-untyped-def, type-arg]
    """Every leaf of the schema that has no properties of its own."""
    for name, child in node.get("properties", {}).items():
        target = schema["$defs"][child["$ref"].rpartition("/")[2]] if "$ref" in child else child
        if "properties" in target:
            yield from walk(schema, target, f"{path}{name}.")
        else:
            yield f"{path}{name}", child
