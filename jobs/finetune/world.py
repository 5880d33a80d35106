"""The processes that train together: which one this is, what they tell each other, and how they end together.

Started by torchrun, or by anything that sets ``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK``, ``MASTER_ADDR`` and
``MASTER_PORT`` as it does, a process joins the others. Rank 0 leads. Messages are JSON, so nothing that comes
over the network is unpickled. A process alone is a world too, and loads nothing of ``torch.distributed``.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from common.errors import UserError, with_exit_code


class LostPeer(Exception):
    """Another process of the run died or did not answer. Worth a retry, so it has Python's exit code 1."""


@dataclass(frozen=True)
class World:
    """This process among ``size``, which all call the same methods in the same order."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process decides and writes for all."""
        return self.rank == 0

    @contextmanager
    def agreement(self) -> Iterator[None]:
        """End here together: a mistake of the user's that one process finds in this block ends them all.

        Raises:
            UserError: the first that a process raised, by rank; the same sentence and exit code in each.
        """
        failure = None
        try:
            yield
        except UserError as error:
            if self.size == 1:
                raise
            failure = [error.exit_code, str(error)]
        for code, sentence in filter(None, self._gather(failure)):
            raise with_exit_code(code, sentence)

    def told(self, value: Any) -> Any:
        """The leader's ``value``, anything that JSON can hold; the others' values are not looked at."""
        return self._gather(value if self.leads else None)[0]

    def sum(self, value: float) -> float:
        """The sum of every process's ``value``, in double precision."""
        return float(sum(self._gather(value)))

    def add_up(self, tensor: Any) -> None:
        """Make ``tensor`` hold the sum of every process's."""
        if self.size > 1:
            import torch.distributed as dist

            with _noticing_loss():
                dist.all_reduce(tensor)

    def copy_from_leader(self, tensor: Any) -> None:
        """Make ``tensor`` hold what the leader's holds."""
        if self.size > 1:
            import torch.distributed as dist

            with _noticing_loss():
                dist.broadcast(tensor, src=0)

    def _gather(self, value: Any) -> list[Any]:
        """Every process's ``value``, by rank."""
        if self.size == 1:
            return [value]
        import torch

        data = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        sizes = [int(size) for size in self._gather_tensors(torch.tensor([len(data)]))]
        padded = torch.nn.functional.pad(data, (0, max(sizes) - len(data)))
        texts = self._gather_tensors(padded)
        return [json.loads(bytes(text[:size].tolist())) for text, size in zip(texts, sizes, strict=True)]

    def _gather_tensors(self, tensor: Any) -> list[Any]:
        import torch
        import torch.distributed as dist

        gathered = [torch.zeros_like(tensor) for _ in range(self.size)]
        with _noticing_loss():
            dist.all_gather(gathered, tensor)
        return gathered


@contextmanager
def joined(peer_timeout: int) -> Iterator[World]:
    """The world that this process was started into; every wait for another ends after ``peer_timeout`` s.

    Raises:
        UserError: the process was told of others, but not how to find them, or has no GPU of its own.
        LostPeer: the others did not come.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    world = World(_rank(), size)
    _join(peer_timeout)
    try:
        with world.agreement():
            _take_gpu()
        yield world
    except UserError as error:
        _leave_the_word_to_the_first_here(error)
        raise
    _leave()


def _rank() -> int:
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise UserError(
            f"WORLD_SIZE is set, but not {', '.join(missing)}: start it with "
            "python -m jobs.finetune.torchrun, or unset WORLD_SIZE to train in one process"
        )
    return int(os.environ["RANK"])


def _join(peer_timeout: int) -> None:
    import torch
    import torch.distributed as dist

    # Messages lie in the CPU's memory, gradients where the model is.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    with _noticing_loss():
        dist.init_process_group(backend, timeout=timedelta(seconds=peer_timeout))


def _leave() -> None:
    import torch.distributed as dist

    dist.destroy_process_group()


def _take_gpu() -> None:
    import torch

    if not torch.cuda.is_available():
        return
    here, gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if here >= gpus:
        raise UserError(
            f"process {here + 1} on this machine finds {gpus} GPU{'s' if gpus > 1 else ''}: "
            f"start one for each with --nproc-per-node={gpus}"
        )
    torch.cuda.set_device(here)


def _leave_the_word_to_the_first_here(error: UserError) -> None:
    """One process of a pod says the sentence; torchrun stops it as soon as another ends, so others wait."""
    if os.environ.get("LOCAL_RANK", "0") != "0":
        time.sleep(1)
        sys.exit(error.exit_code)


@contextmanager
def _noticing_loss() -> Iterator[None]:
    """torch says a dead or silent peer in many ways, all of them ``RuntimeError``."""
    try:
        yield
    except RuntimeError as error:
        raise LostPeer(
            "another process of this run died or did not answer: ending, to be started again from the last "
            f"checkpoint with it ({str(error).splitlines()[0]})"
        ) from error
