"""One run, from its rows as token ids to an adapter with its figures, in each process that takes part."""

from common.finetune_config import FinetuneConfig
from jobs.finetune.batches import by_length, supervised_tokens
from jobs.finetune.checkpoint import Checkpoint, State
from jobs.finetune.inputs import Rows, Sources
from jobs.finetune.lead import Lead
from jobs.finetune.loss import total_nll
from jobs.finetune.memory import explaining_out_of_memory
from jobs.finetune.model import Trainable, load
from jobs.finetune.train import Trainer, make_deterministic
from jobs.finetune.world import World


class Run:
    """This process's part: load, train, measure. The leader's ``lead`` writes down what comes of it."""

    def __init__(
        self, config: FinetuneConfig, world: World, sources: Sources, rows: Rows, lead: Lead | None
    ) -> None:
        self.config = config
        self.world = world
        self.sources = sources
        self.rows = rows
        self.lead = lead

    def train(self) -> None:
        """Go from the base, or from the leader's checkpoint, to a trained adapter."""
        checkpoint = self.lead.checkpoint if self.lead else None
        threads = self._settle_threads(checkpoint)
        trainer = self._load(checkpoint)
        if trainer.step:
            base_loss = checkpoint.state.base_validation_loss if checkpoint else None
        else:
            base_loss = self._validation_loss(trainer.trainable)
        if self.lead:
            self.lead.record(trainer, State(trainer.step, self.sources.identity, threads, base_loss))
        else:
            trainer.run_to_end()
        validation_loss = self._validation_loss(trainer.trainable)
        if self.lead:
            self.lead.keep(trainer, self.rows, base_loss, validation_loss)

    def _settle_threads(self, checkpoint: Checkpoint | None) -> int:
        """Every process sums over as many threads as the leader did when the run began."""
        import torch

        threads = int(self.world.told(checkpoint.state.threads if checkpoint else torch.get_num_threads()))
        make_deterministic(threads)
        return threads

    def _load(self, checkpoint: Checkpoint | None) -> Trainer:
        with self.world.agreement(), explaining_out_of_memory(self.config):
            trainable = load(self.config, self.sources.base)
            trainer = Trainer(self.config, trainable, self.rows.training, self.rows.pad_id, self.world)
            if checkpoint:
                trainer.load(checkpoint.state.step, checkpoint.tensors())
        trainer.share()
        return trainer

    def _validation_loss(self, trainable: Trainable) -> float | None:
        """The loss on the validation rows; before the first step, the base's, for the adapter adds zero."""
        rows, world = self.rows.validation, self.world
        if not rows:
            return None
        mine = by_length(rows, self.config.batch_size)[world.rank :: world.size]
        batches = [[rows[row] for row in batch] for batch in mine]
        with world.agreement(), explaining_out_of_memory(self.config):
            total = total_nll(trainable.peft, trainable.head, batches, pad_id=self.rows.pad_id)
        return world.sum(total) / supervised_tokens(rows)
