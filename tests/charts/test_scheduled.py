"""The CronJobs that close the loop, and the Job that a person's click makes."""

from typing import Any

import pytest
import yaml

from common.job_config import JobConfig, parse
from jobs.promote.config import PromoteConfig
from jobs.retrain.config import RetrainConfig
from services.control.settings import ControlSettings
from tests.charts.rendering import environ, named, of_kind, refused, render

SET = (
    "jobs.retrain.minimum=40",
    "jobs.retrain.recipe=lora-32gb",
    "jobs.retrain.quietHours=22:00-06:00",
    "jobs.retrain.timezone=Asia/Seoul",
    "jobs.retrain.gpuHours=12",
    "jobs.retrain.keep={1588-1234,help@example.com}",
    "jobs.promote.sharePercent=20",
    "jobs.promote.shadow=50",
)


def container(name: str, *values: str) -> dict[str, Any]:
    spec = named(render("rtx5090", *values), "CronJob", f"onggi-{name}")["spec"]
    (only,) = spec["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    return dict(only)


def read(name: str, config: type[JobConfig], monkeypatch: pytest.MonkeyPatch, *values: str) -> Any:
    """The job's configuration, as its container's variables and its ConfigMap's give it."""
    shared = named(render("rtx5090", *values), "ConfigMap", "onggi-jobs-env")["data"]
    for key, value in (shared | environ(container(name, *values))).items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("CONTROL_TOKEN", "from a Secret")
    return parse(config, [], prog=name)


def test_values_reach_the_jobs_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    retrain = read("retrain", RetrainConfig, monkeypatch, *SET)
    assert (retrain.minimum, retrain.recipe, retrain.gpu_hours) == (40, "lora-32gb", 12)
    assert (retrain.quiet_hours, retrain.timezone) == ("22:00-06:00", "Asia/Seoul")
    assert retrain.keep == ("1588-1234", "help@example.com")
    assert retrain.control_url == "http://onggi-control:8080"
    promote = read("promote", PromoteConfig, monkeypatch, *SET)
    assert (promote.share, promote.days, promote.shadow) == (0.2, 14, 50)


def test_the_defaults_are_the_jobs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    retrain = read("retrain", RetrainConfig, monkeypatch)
    assert (retrain.minimum, retrain.recipe, retrain.quiet_hours) == (60, None, "")
    assert (retrain.gpu_hours, retrain.unreviewed, retrain.keep) == (None, False, ())
    ours, defaults = read("promote", PromoteConfig, monkeypatch), PromoteConfig.model_fields
    assert {name: getattr(ours, name) for name in ("share", "days", "shadow")} == {
        name: defaults[name].default for name in ("share", "days", "shadow")
    }


def test_control_counts_to_the_same_minimum() -> None:
    control = named(render("rtx5090", *SET), "Deployment", "onggi-control")["spec"]["template"]["spec"]
    assert environ(control["containers"][0])["RETRAIN_MINIMUM"] == "40"


def test_control_gives_a_claim_up_when_the_job_that_made_it_has_been_ended() -> None:
    manifests = render("rtx5090", *SET)
    control = named(manifests, "Deployment", "onggi-control")["spec"]["template"]["spec"]
    scheduled = named(manifests, "CronJob", "onggi-retrain")["spec"]["jobTemplate"]["spec"]
    seconds = environ(control["containers"][0])["CLAIM_SECONDS"]
    assert float(seconds) == scheduled["activeDeadlineSeconds"]
    assert float(seconds) == ControlSettings.model_fields["claim_seconds"].default


def test_control_makes_the_very_job_that_the_schedule_does() -> None:
    manifests = render("rtx5090", *SET)
    scheduled = named(manifests, "CronJob", "onggi-retrain")["spec"]["jobTemplate"]["spec"]
    told = named(manifests, "ConfigMap", "onggi-jobs")["data"]["retrain.yaml"]
    assert yaml.safe_load(told)["spec"] == scheduled


def test_they_hold_no_card_and_no_key_of_the_store() -> None:
    for name in ("retrain", "promote"):
        one = container(name)
        assert "nvidia.com/gpu" not in one["resources"]["limits"]
        secrets = [entry["name"] for entry in one["env"] if "valueFrom" in entry]
        assert secrets == ["CONTROL_TOKEN"]


def test_without_a_schedule_there_is_none_and_a_wrong_span_is_refused() -> None:
    manifests = render("rtx5090", "jobs.retrain.schedule=", "jobs.promote.schedule=")
    assert of_kind(manifests, "CronJob") == []
    assert "quietHours" in refused("rtx5090", "jobs.retrain.quietHours=at night")
