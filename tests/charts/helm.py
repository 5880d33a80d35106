"""The pinned helm: ``python -m tests.charts.helm`` prints where it is, after building it if need be."""

from functools import cache

from common import errors
from tests.cluster.modules import MODULES, build


@cache
def binary() -> str:
    """The path of helm, which is built from its Go module when the cache has none.

    Raises:
        UserError: it is neither there nor to be built; the sentence says what is missing.
    """
    build(["helm"])
    return str(MODULES["helm"].path("helm"))


if __name__ == "__main__":
    errors.run(lambda: print(binary()))
