"""Build, load and push the images.

    python -m images build gateway control --tag 0.1.0
    python -m images load gateway control                    into kind, k3s or containerd on this machine
    python -m images push gateway --registry ghcr.io/me
    python -m images names gateway --registry ghcr.io/me     what they are called, as JSON

An image is built only when its content has changed; its tag by content, which `names` prints, says which.
"""

import argparse
import json
import os

from common import errors
from images import engine as engines
from images import load as loading
from images.catalog import DEFAULT, IMAGES, Build, plan, release, version
from images.make import build_all

# Build arguments that the environment may set, for a mirror, a digest or another variant of a base image.
ARGUMENTS = ("PYTHON_IMAGE", "TORCH_INDEX", "VLLM_IMAGE")


def main() -> None:
    """Parse the command line and run one command."""
    arguments = _parser().parse_args()
    names = arguments.names or DEFAULT
    builds = plan(names, {name: os.environ[name] for name in ARGUMENTS if os.environ.get(name)})
    wanted = {name: builds[name] for name in names}
    if arguments.command == "names":
        addresses = {name: _address(arguments.registry, build.reference) for name, build in wanted.items()}
        print(json.dumps(addresses))
        return
    if arguments.command == "push" and not arguments.registry:
        raise errors.UserError("push where to? `make images-push REGISTRY=registry.example.com/team`")
    engine = engines.find()
    build_all(engine, builds, arguments.tag)
    if arguments.command == "load":
        load_all(engine, wanted, arguments.tag, arguments.to or loading.find())
    if arguments.command == "push":
        push_all(engine, wanted, arguments.tag, arguments.registry)


def load_all(engine: engines.Engine, builds: dict[str, Build], tag: str, kind: str) -> None:
    """Import each image into the cluster of ``kind``."""
    for name in builds:
        loading.load(engine, release(name, tag), kind)
        print(f"{release(name, tag)}: in {kind}", flush=True)


def push_all(engine: engines.Engine, builds: dict[str, Build], tag: str, registry: str) -> None:
    """Push each image by its tag and by its content."""
    for name, build in builds.items():
        for reference in (release(name, tag), build.reference):
            engine.push(build.reference, _address(registry, reference))
        print(f"{_address(registry, release(name, tag))}: pushed", flush=True)


def _address(registry: str, reference: str) -> str:
    return f"{registry.rstrip('/')}/{reference}" if registry else reference


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m images", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("build", "load", "push", "names"))
    parser.add_argument(
        "names", nargs="*", metavar="image", help=f"of {', '.join(IMAGES)}; default: {' '.join(DEFAULT)}"
    )
    parser.add_argument("--tag", default=version(), help="besides the tag by content; the project's version")
    parser.add_argument("--registry", default="", help="to push to: registry.example.com/team")
    parser.add_argument("--to", choices=loading.KINDS, help="the cluster to load into; found by itself")
    return parser


if __name__ == "__main__":
    errors.run(main)
