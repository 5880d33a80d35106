"""From the chart's templates to the Jobs of one fine-tune: names, marks, variables, where they may run."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from common.errors import UserError
from services.control.kubernetes import marks
from services.control.kubernetes.marks import Object
from services.control.runner import JobSpec, RetrainRun

GPU = "nvidia.com/gpu"
# Labels of what Helm made, which a Job of a template is not.
_HELMS = frozenset({"app.kubernetes.io/managed-by", "helm.sh/chart"})


class Templates:
    """The chart's Job templates in ``folder``: complete manifests, read anew each time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, name: str) -> Object:
        """The template of Job ``name`` (finetune, evaluate, download).

        Raises:
            UserError: it is not there or no Job.
        """
        path = self._folder / f"{name}.yaml"
        try:
            job = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise UserError(f"{path} cannot be read ({error}): set JOB_TEMPLATES to the chart's") from None
        if not isinstance(job, dict) or job.get("kind") != "Job":
            raise UserError(f"{path} holds no Job: set JOB_TEMPLATES to the chart's templates")
        return job


def asks_for_gpu(job: Mapping[str, Any]) -> bool:
    """Whether the Job wants a GPU, so that somebody must choose which."""
    resources = marks.container(job, "finetune").get("resources") or {}
    return bool((resources.get("limits") or {}).get(GPU))


def name_job(
    template: Object, name: str, labels: Mapping[str, str], annotations: Mapping[str, str]
) -> Object:
    """A copy of ``template`` called ``name``, with more marks on it and on its pods."""
    job = copy.deepcopy(template)
    job["metadata"]["name"] = name
    pod = job["spec"]["template"]
    for metadata in (job["metadata"], pod.setdefault("metadata", {})):
        given = {key: value for key, value in (metadata.get("labels") or {}).items() if key not in _HELMS}
        metadata["labels"] = given | dict(labels)
    if annotations:
        job["metadata"]["annotations"] = (job["metadata"].get("annotations") or {}) | dict(annotations)
    return job


def set_environment(containers: list[Object], values: Mapping[str, Any]) -> None:
    """Give each container the variables ``values`` in place of its own; None leaves one out."""
    for container in containers:
        given = {name: as_text(value) for name, value in values.items() if value is not None}
        kept = [entry for entry in container.get("env") or [] if entry["name"] not in values]
        container["env"] = kept + [{"name": name, "value": value} for name, value in given.items()]


def as_text(value: Any) -> str:
    """``value`` as a job reads it from a variable; ``$(...)`` is kept from being expanded by Kubernetes."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.replace("$(", "$$(")


def finetune_job(template: Object, spec: JobSpec, places: Mapping[str, str], held_out: str | None) -> Object:
    """The first step's Job; ``places`` are the addresses of its rows and of its base."""
    labels = {marks.FINE_TUNE: spec.id, marks.STEP: "finetune", marks.BOT: spec.bot}
    annotations = {marks.SPEC: spec.model_dump_json()}
    if held_out:
        annotations[marks.HELD_OUT] = held_out
    job = name_job(template, spec.id, labels, annotations)
    values = {f"FINETUNE_{key.upper()}": value for key, value in spec.config.items()}
    set_environment(job["spec"]["template"]["spec"]["containers"], values | dict(places))
    return job


def set_base(job: Object, source: str, revision: str) -> None:
    """Let the Job's pods fetch the base first, at that revision where one is pinned."""
    downloads = job["spec"]["template"]["spec"].get("initContainers") or []
    set_environment(downloads, {"DOWNLOAD_NAME": source, "DOWNLOAD_REVISION": revision or None})


def same_base(job: Object, finetune: Object) -> None:
    """Let ``job`` fetch the very base that the first step did."""
    downloads = finetune["spec"]["template"]["spec"].get("initContainers") or [{}]
    given = {entry["name"]: entry.get("value", "") for entry in downloads[0].get("env") or []}
    set_base(job, given.get("DOWNLOAD_NAME", ""), given.get("DOWNLOAD_REVISION", ""))


def place(job: Object, node_affinity: Mapping[str, Any]) -> None:
    """Let the Job's pods run where ``node_affinity`` says."""
    pod = job["spec"]["template"]["spec"]
    pod["affinity"] = (pod.get("affinity") or {}) | {"nodeAffinity": dict(node_affinity)}


def own(job: Object, owner: Object | None) -> None:
    """Let the Job go when ``owner`` goes."""
    if owner:
        job["metadata"]["ownerReferences"] = [owner]


def evaluate_job(template: Object, finetune: Object, spec: JobSpec, version: str, held_out: str) -> Object:
    """The second step's Job, which goes when the first one's goes; rows are cut as in training."""
    shared = {
        key: value for key, value in marks.labels(finetune).items() if key in (marks.FINE_TUNE, marks.BOT)
    }
    name = f"{finetune['metadata']['name'][:54]}-evaluate"
    job = name_job(template, name, shared | {marks.STEP: "evaluate"}, {})
    values = {
        "EVALUATE_VERSION": version,
        "EVALUATE_DATA": held_out,
        "EVALUATE_MAX_LENGTH": spec.config.get("max_length"),
        "EVALUATE_TRUNCATE": spec.config.get("truncate"),
        "EVALUATE_LEAVE_OUT": spec.config.get("leave_out"),
    }
    set_environment(job["spec"]["template"]["spec"]["containers"], values)
    same_base(job, finetune)
    first = finetune["metadata"]
    own(job, {"apiVersion": "batch/v1", "kind": "Job", "name": first["name"], "uid": first["uid"]})
    return job


def retrain_job(template: Object, request: RetrainRun) -> Object:
    """The Job that a person asked for; without a fine-tune's marks, for it is none and ends in seconds."""
    job = name_job(template, f"{template['metadata']['name'][:36]}-{request.id}", {}, {})
    set_environment(job["spec"]["template"]["spec"]["containers"], request.environment())
    return job
