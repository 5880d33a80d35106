"""Build all images that the chart runs without a registry of the world, and push them to the cluster's:

    python -m tests.cluster.images --registry 127.0.0.1:5000 [gateway control ...]

Our own come from their Dockerfiles as they are, upon a stand-in for their base; the store's are stand-ins
under the chart's references. What has not changed is neither built nor pushed. Messages go to stderr; stdout
is JSON, the tag by content of each of ours.
"""

import argparse
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import redirect_stdout

from common import errors
from common.errors import UserError
from images.catalog import plan, release, version
from images.engine import Buildah, storage
from images.make import build_all
from tests.cluster.images import python, stores

OURS = ("gateway", "control", "ui", "mlflow", "jobs-cpu", "vllm-cpu")


def main() -> None:
    """Parse the command line and build."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="image", default=[*stores.NAMES, *OURS])
    parser.add_argument(
        "--registry", default="", help="plain HTTP, on this machine; without it nothing is pushed"
    )
    arguments = parser.parse_args()
    with redirect_stdout(sys.stderr):
        tags = build(arguments.names, arguments.registry)
    print(json.dumps(tags))


def build(names: Sequence[str], registry: str) -> dict[str, str]:
    """Build and push ``names``; the tag by content of each."""
    buildah = Buildah(storage())
    base = python.build(buildah)
    tags = {}
    for name in [name for name in names if name in stores.NAMES]:
        reference = stores.build(buildah, name, base)
        _push(buildah, reference, registry, [reference, stores.upstream()[name]])
        tags[name] = stores.upstream()[name].partition(":")[2]
    builds = plan([name for name in names if name not in stores.NAMES], {"PYTHON_IMAGE": base})
    build_all(buildah, builds, version())
    for name in names:
        if name in builds:
            reference = builds[name].reference
            _push(buildah, reference, registry, [release(name, version()), reference])
            tags[name] = builds[name].content
    return tags


def _push(buildah: Buildah, reference: str, registry: str, names: Sequence[str]) -> None:
    if not registry or _same_everywhere(registry, [reference, *names]):
        return
    # The tag by content comes last: where it is, everything is.
    for name in sorted(names, key=lambda name: name == reference):
        buildah.push(reference, f"{registry}/{name}")
    print(f"{registry}/{reference}: pushed", flush=True)


def _same_everywhere(registry: str, names: Sequence[str]) -> bool:
    digests = {_digest(registry, name) for name in names}
    return len(digests) == 1 and None not in digests


def _digest(registry: str, reference: str) -> str | None:
    name, _, tag = reference.partition(":")
    request = urllib.request.Request(f"http://{registry}/v2/{name}/manifests/{tag}", method="HEAD")
    request.add_header("Accept", "application/vnd.oci.image.manifest.v1+json")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            digest: str | None = answer.headers["Docker-Content-Digest"]
            return digest
    except urllib.error.HTTPError:
        return None
    except OSError as error:
        raise UserError(
            f"the registry {registry} does not answer ({error}): start it with `make cluster`"
        ) from None


if __name__ == "__main__":
    errors.run(main)
