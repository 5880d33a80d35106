"""Build what has changed, and forget what it was long before."""

import re
import time
from collections.abc import Mapping

from images.catalog import Build, release
from images.engine import Engine

KEPT = 2


def build_all(engine: Engine, builds: Mapping[str, Build], tag: str) -> None:
    """Build what the engine does not have, parents first, and give all of it the tag ``tag``."""
    for name, build in builds.items():
        started = time.monotonic()
        made = ensure(engine, build)
        engine.tag(build.reference, release(name, tag))
        how = f"built in {time.monotonic() - started:.0f} s" if made else "unchanged"
        print(f"{release(name, tag)}: {how} ({build.reference})", flush=True)


def ensure(engine: Engine, build: Build) -> bool:
    """Build ``build`` unless its content is there; whether it was built."""
    if engine.has(build.reference):
        return False
    engine.build(build)
    _forget_old(engine, build)
    return True


def _forget_old(engine: Engine, build: Build) -> None:
    """Remove what this image was before its last two contents: with torch in it, each has gigabytes."""
    by_content = re.compile(r"[0-9a-f]{12}" + re.escape(build.suffix))
    for tag in [tag for tag in engine.tags(build.name) if by_content.fullmatch(tag)][KEPT:]:
        engine.remove(f"{build.name}:{tag}")
