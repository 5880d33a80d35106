"""What one process of a run does for all: say how it begins, note how it goes, keep what comes of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace

from common import logging
from common.errors import UserError
from common.finetune_config import FinetuneConfig
from common.storage import open_store
from jobs.finetune.checkpoint import Checkpoint, Checkpoints, State
from jobs.finetune.inputs import Identity, Rows, Sources
from jobs.finetune.metrics import MetricsFile, StepMetrics, last_epoch_loss
from jobs.finetune.model import save_adapter
from jobs.finetune.output import Output
from jobs.finetune.progress import Progress
from jobs.finetune.registering import open_destination, register
from jobs.finetune.result import Result, read_result, write_result
from jobs.finetune.tracking import Tracker, Untracked, check_reachable, open_tracker
from jobs.finetune.train import Trainer


class Lead:
    """The leader's books: output folder, checkpoints, MLflow, and where the version will go."""

    def __init__(self, config: FinetuneConfig, sources: Sources) -> None:
        """Look for what an earlier process of this very run left, and whether the rest can begin.

        Raises:
            UserError: the output folder holds another run.
            AwayError: MLflow does not answer.
        """
        self.config = config
        self.sources = sources
        self.output = Output(config.output)
        self.metrics = MetricsFile(self.output.metrics)
        self.tracker: Tracker = Untracked()
        self.log = logging.get("training")
        self.result: Result | None = None
        self.checkpoint: Checkpoint | None = None
        self._checkpoints = self._open_checkpoints()
        if not config.restart:
            self._find_earlier()
        check_reachable(config.mlflow_tracking_uri)
        self._destination = open_destination(config)

    @property
    def finished(self) -> bool:
        """Whether an earlier process trained to the end; registering may still be left."""
        return self.result is not None

    def read(self, rows: Rows) -> None:
        """Note what of the rows was left out."""
        if rows.left_out:
            self.log.warning("rows_left_out", sentence=rows.left_out, job_id=self.config.job_id)

    @contextmanager
    def begun(self) -> Iterator[None]:
        """Keep other processes out of the output folder, and make it ready.

        Raises:
            UserError: another process is in it.
            RegistryUnavailable, RegistryRefused: MLflow does not take the run.
        """
        with self.output.locked():
            if self.config.restart:
                self.output.clear()
                self._checkpoints.clear()
            self._checkpoints.sweep()
            if self.checkpoint:
                self.checkpoint.restore(self.output.books)
            self.tracker = open_tracker(self.config, self.sources, self.output.run)
            yield

    def record(self, trainer: Trainer, state: State) -> None:
        """Train to the end, writing down each step."""
        self.metrics.open_at(trainer.step)
        with Progress(trainer.total_steps, trainer.step) as progress:
            for step in trainer.run():
                self.metrics.append(step)
                self._report(step)
                progress.show(step)
                if step.step % self.config.checkpoint_every == 0 and step.step < trainer.total_steps:
                    now = replace(state, step=step.step)
                    self._checkpoints.save(now, trainer.tensors(), self.output.books)
                self.tracker.send(self.metrics.steps)
        self.metrics.close()

    def keep(self, trainer: Trainer, rows: Rows, before: float | None, after: float | None) -> None:
        """Save the adapter, tell MLflow and write the result: the run is done from there on."""
        save_adapter(trainer.trainable, self.sources.base, self.output.adapter)
        self.result = self._figures(trainer, rows, before, after)
        names = ("adapter_config.json", "README.md")
        files = [self.output.metrics, *(self.output.adapter / name for name in names)]
        self.tracker.finish(self.metrics.steps, self.result, files)
        write_result(self.output.result, self.result)
        self.log.info(
            "finished", adapter=self.result.adapter, loss=self.result.train_loss, step=self.result.steps
        )

    def register(self) -> Result:
        """Make the adapter a version of its bot, unless it has none or is one already.

        Checkpoints stay until then: a pod that dies may lose the result with its disk.

        Raises:
            UserError: it cannot be served, or the registry refuses it.
            RegistryUnavailable, StorageUnavailable: one of them is away.
        """
        assert self.result, "there is a result once the run is finished"
        if self._destination and not self.result.version:
            version = register(self.config, self.sources.base, self.result, self._destination)
            self.result = self.result.registered(version)
            write_result(self.output.result, self.result)
        self._hand_in()
        self._checkpoints.clear()
        return self.result

    def _hand_in(self) -> None:
        """Put figures and result where whoever asked for the job finds them when this disk is gone."""
        if self.config.job_id:
            store = open_store(self.config.store_url)
            for file in (self.output.metrics, self.output.result):  # the result says that all is there
                store.put_file(file, f"results/{self.config.job_id}/{file.name}")

    def _open_checkpoints(self) -> Checkpoints:
        if not self.config.checkpoint_store:
            return Checkpoints(self.output.checkpoints)
        name = self.sources.identity.digest.removeprefix("sha256:")[:16]
        store = open_store(self.config.checkpoint_store)
        return Checkpoints(self.output.checkpoints, store, f"checkpoints/{name}")

    def _find_earlier(self) -> None:
        """What an earlier process of this run left: its result, or its newest checkpoint."""
        self.result = read_result(self.output.result)
        if self.result:
            self._refuse_changes(Identity(**self.result.identity))
            self.log.info("already finished", adapter=self.result.adapter, version=self.result.version)
            return
        self.checkpoint = self._checkpoints.latest()
        if self.checkpoint:
            self._refuse_changes(self.checkpoint.state.identity)

    def _refuse_changes(self, before: Identity) -> None:
        changes = self.sources.identity.changes_since(before)
        if changes:
            raise UserError(
                f"{self.output.folder} holds another run ({'; '.join(changes)}): "
                "give another --output, or --restart to throw that run away"
            )

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

    def _figures(self, trainer: Trainer, rows: Rows, before: float | None, after: float | None) -> Result:
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
            chat_template_hash=rows.template,
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
            left_out=rows.left_out,
        )
