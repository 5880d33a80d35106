"""The form of charts/observability and charts/gpu; what they depend on is not fetched, so not rendered."""

import re
from typing import Any

import pytest
import yaml

from tests.charts.rendering import CHART, CUSTOM_METRICS, ROOT, of_kind, render

CHARTS = ("observability", "gpu")


def read(chart: str, name: str) -> dict[str, Any]:
    """A YAML file of a chart."""
    return dict(yaml.safe_load((ROOT / "charts" / chart / name).read_text()))


@pytest.mark.parametrize("chart", CHARTS)
def test_dependencies_are_pinned_and_values_are_theirs(chart: str) -> None:
    dependencies = read(chart, "Chart.yaml")["dependencies"]
    for dependency in dependencies:
        assert re.fullmatch(r"\d+\.\d+\.\d+", dependency["version"]), dependency["name"]
        assert dependency["repository"].startswith("https://")
    assert {dependency["name"] for dependency in dependencies} == set(read(chart, "values.yaml"))


@pytest.mark.parametrize("chart", CHARTS)
def test_what_can_be_switched_off_has_its_switch(chart: str) -> None:
    values = read(chart, "values.yaml")
    for dependency in read(chart, "Chart.yaml")["dependencies"]:
        if condition := dependency.get("condition"):
            name, _, key = condition.partition(".")
            assert isinstance(values[name][key], bool)


def test_the_adapter_serves_the_metrics_that_the_autoscalers_ask_for() -> None:
    arguments = ("gateway.autoscaling.enabled=true", "vllm.defaults.autoscaling.enabled=true")
    scalers = of_kind(render("cpu", *arguments, apis=(CUSTOM_METRICS,)), "HorizontalPodAutoscaler")
    asked = {
        metric["pods"]["metric"]["name"]
        for scaler in scalers
        for metric in scaler["spec"]["metrics"]
        if metric["type"] == "Pods"
    }
    rules = read("observability", "values.yaml")["prometheus-adapter"]["rules"]["custom"]
    assert asked == {served(rule) for rule in rules}


def served(rule: dict[str, Any]) -> str:
    """The name under which prometheus-adapter serves a rule's series."""
    series = rule["seriesQuery"].partition("{")[0]
    name = rule.get("name", {"matches": "^(.*)$", "as": "${1}"})
    return re.sub(name["matches"], name["as"].replace("${1}", r"\1"), series)


def test_the_namespaces_of_the_readmes_are_those_that_the_policies_let_in() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())["networkPolicy"]
    (monitoring,) = values["monitoring"]["namespaceLabels"].values()
    assert f"-n {monitoring} " in (ROOT / "charts/observability/README.md").read_text()
