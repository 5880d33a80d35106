"""Namespaces of a test's own, as k8s/namespaces makes the platform's: only restricted pods run there."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import yaml

from tests.e2e.kube import Kube

ONGGI = Path(__file__).resolve().parents[2] / "k8s" / "namespaces" / "onggi.yaml"


@contextmanager
def restricted(kube: Kube, name: str) -> Iterator[Kube]:
    """The cluster's administrator in a namespace ``name``, which is empty at first and goes afterwards."""
    kube.kubectl("delete", "namespace", name, "--ignore-not-found", "--timeout=180s", timeout=200)
    manifest = yaml.safe_load(ONGGI.read_text())
    manifest["metadata"]["name"] = name
    mine = replace(kube, namespace=name)
    mine.apply(manifest)
    yield mine
    mine.kubectl("delete", "namespace", name, "--wait=false")
