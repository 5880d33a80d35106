"""Whether storage works: a claim gets its volume, which a running provisioner alone does not promise."""

import json

from tests.cluster.commands import kubectl
from tests.cluster.place import NODE, Place

_NAMESPACE, _NAME = "local-path-storage", "tried"


def claim_binds(place: Place) -> None:
    """Make a claim of the default StorageClass, see it bound, and remove it.

    Raises:
        UserError: it has no volume after two minutes.
    """
    there = ("-n", _NAMESPACE)
    kubectl(place, *there, "delete", "pvc", _NAME, "--ignore-not-found", "--timeout=60s")
    kubectl(place, *there, "apply", "-f", "-", text=json.dumps(_claim()))
    kubectl(place, *there, "wait", "pvc", _NAME, "--for=jsonpath={.status.phase}=Bound", "--timeout=120s")
    kubectl(place, *there, "delete", "pvc", _NAME, "--timeout=60s")


def _claim() -> dict[str, object]:
    # The class waits for a pod's node; the annotation is how the scheduler says which that is.
    metadata = {"name": _NAME, "annotations": {"volume.kubernetes.io/selected-node": NODE}}
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}
