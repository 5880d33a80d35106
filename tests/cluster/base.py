"""What a cluster can be made of: this machine, or kind where Docker runs."""

from collections.abc import Iterable
from typing import Protocol

from tests.cluster.archives import Image


class Base(Protocol):
    """Kubernetes without the parts that go into it."""

    name: str
    # What this kind of cluster must be given, where the other brings it along.
    parts: tuple[str, ...]

    def check(self) -> None:
        """Refuse what cannot work before anything is built or made.

        Raises:
            UserError: something is missing, in one sentence.
        """
        ...

    def up(self) -> None:
        """Start it unless it runs, and return when its node is ready.

        Raises:
            UserError: something did not start, in one sentence with the end of its log.
        """
        ...

    def load(self, images: Iterable[Image]) -> None:
        """Put images on the node, which no registry has."""
        ...

    def write(self, path: str, content: str) -> None:
        """Write a file on the node, complete at every moment."""
        ...

    def down(self) -> None:
        """Stop it and remove all of it but its logs; what is already gone is no error."""
        ...

    def running(self) -> dict[str, bool]:
        """Its processes, and whether each lives."""
        ...
