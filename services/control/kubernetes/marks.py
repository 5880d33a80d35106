"""What a fine-tune's Jobs and pods are marked with, and how its id is read from that.

Two Jobs make one fine-tune by having the same value of ``onggi.dev/fine-tune``. Control names its Jobs after
their id; a Job that kubectl made has any label, and the id of such a fine-tune is its first Job's uid, so
that the same file applied again is another fine-tune.
"""

from collections.abc import Mapping
from typing import Any, Literal

Object = dict[str, Any]
"""A Kubernetes object as JSON."""
Step = Literal["finetune", "evaluate"]

FINE_TUNE = "onggi.dev/fine-tune"
STEP = "onggi.dev/step"
BOT = "onggi.dev/bot"
SPEC = "onggi.dev/spec"
HELD_OUT = "onggi.dev/held-out"
"""The address of the rows that the second step judges on."""
CONTROLLER = "batch.kubernetes.io/controller-uid"
"""The label by which Kubernetes itself says whose a Job's pod is."""
PREFIX = "ftjob-"


def labels(thing: Mapping[str, Any]) -> dict[str, str]:
    """The object's labels."""
    return thing["metadata"].get("labels") or {}


def annotations(thing: Mapping[str, Any]) -> dict[str, str]:
    """The object's annotations."""
    return thing["metadata"].get("annotations") or {}


def step(thing: Mapping[str, Any]) -> Step:
    """Which step a Job or a pod belongs to; the first where it does not say."""
    return "evaluate" if labels(thing).get(STEP) == "evaluate" else "finetune"


def job_id(finetune: Mapping[str, Any]) -> str:
    """The id of the fine-tune whose first Job this is."""
    label = labels(finetune)[FINE_TUNE]
    return label if label.startswith(PREFIX) else f"{PREFIX}{finetune['metadata']['uid']}"


def container(job: Mapping[str, Any], name: str) -> Object:
    """The container ``name`` of a Job's or pod's template; the first where none is called so."""
    containers: list[Object] = job["spec"]["template"]["spec"]["containers"]
    return next((one for one in containers if one["name"] == name), containers[0])


def environment(job: Mapping[str, Any], name: str) -> dict[str, str]:
    """The plain variables of that container."""
    entries = container(job, name).get("env") or []
    return {entry["name"]: entry["value"] for entry in entries if "value" in entry}
