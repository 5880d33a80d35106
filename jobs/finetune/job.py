"""The story of a fine-tune, from the configuration to a registered version.

Every process of a run goes through it together; the one that leads has ``Lead`` besides.
"""

from contextlib import ExitStack
from dataclasses import asdict

from common.errors import UserError
from common.finetune_config import FinetuneConfig
from jobs.finetune.inputs import Identity, encode, read_sources
from jobs.finetune.lead import Lead
from jobs.finetune.result import Result
from jobs.finetune.run import Run
from jobs.finetune.world import World


def finetune(config: FinetuneConfig, world: World) -> Result | None:
    """Fine-tune as ``config`` says, or go on with what earlier processes of the same run left.

    Returns:
        What came of it, in the process that leads; None in the others, which wait until it is registered.

    Raises:
        UserError: the configuration, the data or the output folder must be mended first.
        TooBigError: the GPU's memory is not enough.
        LostPeer: another process is gone.
    """
    with ExitStack() as held:
        with world.agreement():
            sources = read_sources(config, world.size)
            lead = Lead(config, sources) if world.leads else None
        with world.agreement():
            _refuse_strangers(world, sources.identity)
        if not world.told(lead and lead.finished):
            with world.agreement():
                rows = encode(config, sources)
                if lead:
                    lead.read(rows)
                    held.enter_context(lead.begun())
            Run(config, world, sources, rows, lead).train()
        with world.agreement():
            return lead.register() if lead else None


def _refuse_strangers(world: World, mine: Identity) -> None:
    """Pods read files of their own; processes that read different ones would train nonsense together."""
    changes = mine.changes_since(Identity(**world.told(asdict(mine))))
    if changes:
        raise UserError(
            f"process {world.rank} has not what process 0 has ({'; '.join(changes)}): "
            "give all processes the same configuration, base and rows"
        )
