"""One run, from its rows as token ids to an adapter with its figures."""

from dataclasses import asdict, replace

from common import logging
from common.chat import Example
from common.finetune_config import FinetuneConfig
from jobs.finetune.checkpoint import Checkpoint, Checkpoints, State
from jobs.finetune.inputs import Sources
from jobs.finetune.loss import mean_nll
from jobs.finetune.metrics import MetricsFile, StepMetrics, last_epoch_loss
from jobs.finetune.model import Trainable, load, save_adapter
from jobs.finetune.output import Output
from jobs.finetune.progress import Progress
from jobs.finetune.result import Result, write_result
from jobs.finetune.tracking import Tracker
from jobs.finetune.train import Trainer, make_deterministic


class Run:
    """A run in this process: load, train, measure, save. Registering is not part of it."""

    def __init__(
        self,
        config: FinetuneConfig,
        output: Output,
        sources: Sources,
        checkpoints: Checkpoints,
        tracker: Tracker,
        pad: int,
        validation: list[Example],
    ) -> None:
        self.config = config
        self.output = output
        self.sources = sources
        self.checkpoints = checkpoints
        self.tracker = tracker
        self.pad = pad
        self.validation = validation
        self.metrics = MetricsFile(output.metrics)
        self.log = logging.get("training")

    def train(self, examples: list[Example], checkpoint: Checkpoint | None, template: str) -> Result:
        """Load, train, save: everything but registering."""
        threads = make_deterministic(checkpoint.state.threads if checkpoint else None)
        trainable = load(self.config, self.sources.base)
        trainer = Trainer(self.config, trainable, examples, self.pad)
        if checkpoint:
            trainer.load(checkpoint.state.step, checkpoint.tensors())
            base_loss = checkpoint.state.base_validation_loss
        else:
            base_loss = self._validation_loss(trainable)
        self.metrics.open_at(trainer.step)
        self._loop(trainer, State(trainer.step, self.sources.identity, threads, base_loss))
        save_adapter(trainable, self.sources.base, self.output.adapter)
        result = self._result(trainer, template, base_loss, self._validation_loss(trainable))
        self._end(result)
        return result

    def _loop(self, trainer: Trainer, state: State) -> None:
        with Progress(trainer.total_steps, trainer.step) as progress:
            for step in trainer.run():
                self.metrics.append(step)
                self._report(step)
                progress.show(step)
                if step.step % self.config.checkpoint_every == 0 and step.step < trainer.total_steps:
                    self.checkpoints.save(replace(state, step=step.step), trainer.tensors())
                self.tracker.send(self.metrics.steps)
        self.metrics.close()

    def _report(self, step: StepMetrics) -> None:
        self.log.info(
            "step",
            epoch=step.epoch,
            step=step.step,
            loss=step.loss,
            learning_rate=step.learning_rate,
            gpu_memory=step.gpu_memory,
            tokens_per_second=step.tokens_per_second,
            job_id=self.config.job_id,
        )

    def _validation_loss(self, trainable: Trainable) -> float | None:
        """The loss on the validation rows; before the first step, the base's, for the adapter adds zero."""
        if not self.validation:
            return None
        return mean_nll(
            trainable.peft,
            trainable.head,
            self.validation,
            pad_id=self.pad,
            batch_size=self.config.batch_size,
        )

    def _result(self, trainer: Trainer, template: str, before: float | None, after: float | None) -> Result:
        steps = self.metrics.steps
        tokens = sum(step.tokens for step in steps)
        return Result(
            adapter=str(self.output.adapter),
            base=self.sources.base.name,
            base_revision=self.sources.base.revision,
            method=self.config.method,
            rank=self.config.rank,
            precision=trainer.trainable.precision,
            dataset_digest=self.sources.dataset.digest,
            chat_template_hash=template,
            identity=asdict(self.sources.identity),
            steps=trainer.step,
            train_loss=last_epoch_loss(steps),
            base_validation_loss=before,
            validation_loss=after,
            trained_tokens=tokens,
            supervised_tokens=sum(step.supervised_tokens for step in steps),
            tokens_per_second=round(tokens / sum(step.tokens / step.tokens_per_second for step in steps), 1),
            job_id=self.config.job_id,
            metadata=self.config.metadata,
            run_id=self.tracker.run_id,
        )

    def _end(self, result: Result) -> None:
        """The run is done from here on: tell MLflow, write the result, and drop the checkpoints."""
        files = [
            self.output.metrics,
            *(self.output.adapter / name for name in ("adapter_config.json", "README.md")),
        ]
        self.tracker.finish(self.metrics.steps, result, files)
        write_result(self.output.result, result)
        self.checkpoints.clear()
        self.log.info("finished", adapter=result.adapter, loss=result.train_loss, step=result.steps)
