"""torchrun whose exit code is the trainer's.

    python -m jobs.finetune.torchrun --nproc-per-node 2 -m jobs.finetune --config job.yaml
    python -m jobs.finetune.torchrun --nnodes 2 --node-rank 0 --master-addr first.example -m jobs.finetune ...

Arguments and ``PET_*`` variables are torchrun's own. It ends with 1 whatever its processes ended with, and a
Job's podFailurePolicy would never see 2 (configuration or data) or 3 (needs a bigger GPU).
"""

import logging
import sys
from collections.abc import Sequence

from common.errors import NOT_RETRIED


def main() -> None:
    """Run torchrun and exit as the trainer did."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    # It would say that a process failed, after the sentence in which that process said why.
    logging.getLogger("torch.distributed.elastic.multiprocessing.api").setLevel(logging.CRITICAL)
    try:
        torchrun(sys.argv[1:])
    except ChildFailedError as error:
        failures = sorted(error.failures.values(), key=lambda failure: failure.timestamp)
        sys.exit(exit_code([failure.exitcode for failure in failures]))
    except SignalException as error:
        sys.exit(128 + error.sigval)


def exit_code(codes: Sequence[int]) -> int:
    """One code for processes that ended with ``codes``, the first to end first: what forbids a retry wins.

    A negative code is the number of the signal that killed the process, as in ``subprocess``; it becomes
    128 plus the number, as a shell says it.
    """
    final = [code for code in codes if code in NOT_RETRIED]
    code = final[0] if final else codes[0]
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    main()
