"""The story of a fine-tune, from the configuration to a registered version."""

from typing import Any

from common import logging
from common.chat import Example, pad_id, template_hash
from common.errors import UserError
from common.finetune_config import FinetuneConfig
from common.storage import open_store
from jobs.finetune.checkpoint import Checkpoint, Checkpoints
from jobs.finetune.inputs import Identity, Sources, encoded, read_sources
from jobs.finetune.memory import explaining_out_of_memory
from jobs.finetune.model import load_tokenizer
from jobs.finetune.output import Output
from jobs.finetune.registering import open_destination, register
from jobs.finetune.result import Result, read_result, write_result
from jobs.finetune.run import Run
from jobs.finetune.tracking import check_reachable, open_tracker
from jobs.register import Destination


def finetune(config: FinetuneConfig) -> Result:
    """Fine-tune as ``config`` says, or go on with what an earlier process of the same run left.

    Raises:
        UserError: the configuration, the data or the output folder must be mended first.
        TooBigError: the GPU's memory is not enough.
    """
    output = Output(config.output)
    sources = read_sources(config)
    checkpoints = _checkpoints(config, output, sources.identity)
    done, checkpoint = (None, None) if config.restart else _earlier(output, checkpoints, sources.identity)
    check_reachable(config.mlflow_tracking_uri)
    destination = open_destination(config)
    if done:
        logging.get("training").info("already finished", adapter=done.adapter, version=done.version)
        return _register(config, output, sources, done, destination)
    tokenizer = load_tokenizer(sources.base)
    examples = encoded(config, tokenizer, sources.dataset, config.data)
    validation = _validation_examples(config, tokenizer, sources)
    with output.locked():
        if config.restart:
            output.clear()
            checkpoints.clear()
        checkpoints.sweep()
        tracker = open_tracker(config, sources, output.run)
        run = Run(config, output, sources, checkpoints, tracker, pad_id(tokenizer), validation)
        with explaining_out_of_memory(config):
            result = run.train(examples, checkpoint, template_hash(tokenizer))
        return _register(config, output, sources, result, destination)


def _checkpoints(config: FinetuneConfig, output: Output, identity: Identity) -> Checkpoints:
    if not config.checkpoint_store:
        return Checkpoints(output.checkpoints)
    name = identity.digest.removeprefix("sha256:")[:16]
    return Checkpoints(output.checkpoints, open_store(config.checkpoint_store), f"checkpoints/{name}")


def _earlier(
    output: Output, checkpoints: Checkpoints, identity: Identity
) -> tuple[Result | None, Checkpoint | None]:
    """What an earlier process of this very run left: its result, or its newest checkpoint."""
    result = read_result(output.result)
    if result:
        _refuse_changes(output, identity, Identity(**result.identity))
        return result, None
    checkpoint = checkpoints.latest()
    if checkpoint:
        _refuse_changes(output, identity, checkpoint.state.identity)
    return None, checkpoint


def _refuse_changes(output: Output, now: Identity, before: Identity) -> None:
    changes = now.changes_since(before)
    if changes:
        raise UserError(
            f"{output.folder} holds another run ({'; '.join(changes)}): "
            "give another --output, or --restart to throw that run away"
        )


def _validation_examples(config: FinetuneConfig, tokenizer: Any, sources: Sources) -> list[Example]:
    if not sources.validation or not config.validation:
        return []
    return encoded(config, tokenizer, sources.validation, config.validation)


def _register(
    config: FinetuneConfig, output: Output, sources: Sources, result: Result, to: Destination | None
) -> Result:
    """Make the adapter a version of its bot, unless it has none or is one already."""
    if not to or result.version:
        return result
    registered = result.registered(register(config, sources.base, result, to))
    write_result(output.result, registered)
    return registered
