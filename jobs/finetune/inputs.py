"""What a run starts from: the base model, the rows as token ids, and what a resume must share.

Every process of a run reads all of it for itself.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from common.chat import Encoded, Example, encode_rows, pad_id, template_hash
from common.errors import UserError
from common.finetune_config import FinetuneConfig
from common.models import BaseModel, resolve
from common.rows import Dataset, DatasetError, read_rows
from common.storage import fetch
from jobs.finetune.memory import check_fits
from jobs.finetune.model import load_tokenizer

_SHOWN = 5
"""Rows that were left out and are named; all are counted."""


@dataclass(frozen=True)
class Identity:
    """What decides the final weights: two runs with equal identities end alike on equal hardware."""

    training: dict[str, Any]
    base_revision: str
    dataset_digest: str
    validation_digest: str | None
    world_size: int
    """How many processes train together, which decides the order of the sums."""

    @property
    def digest(self) -> str:
        """``sha256:...`` over everything in it."""
        canonical = json.dumps(asdict(self), sort_keys=True)
        return f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"

    def changes_since(self, earlier: "Identity") -> list[str]:
        """What is not as it was, one phrase each: ``learning_rate is 0.0002, was 0.0001``."""
        before, now = _flat(earlier), _flat(self)
        return [
            f"{key} is {now.get(key)}, was {before.get(key)}"
            for key in sorted(before | now)
            if before.get(key) != now.get(key)
        ]


@dataclass(frozen=True)
class Sources:
    """The base model and the rows, read and checked, before anything heavy is imported."""

    base: BaseModel
    dataset: Dataset
    validation: Dataset | None
    identity: Identity


@dataclass(frozen=True)
class Rows:
    """The rows as token ids, and what else the tokenizer decides."""

    training: list[Example]
    validation: list[Example]
    pad_id: int
    template: str
    """Hash of the chat template."""
    left_out: str
    """Which rows were left out and why, in a sentence; empty where none was."""


def read_sources(config: FinetuneConfig, world_size: int) -> Sources:
    """Find the base and read the rows, for a run of ``world_size`` processes.

    Raises:
        UserError: the model, a file or rows are missing or cannot be used.
    """
    base = resolve(config.base, config.model_cache_dir)
    dataset = _read(config.data)
    validation = _read(config.validation) if config.validation else None
    identity = Identity(
        training=config.training_values(),
        base_revision=base.revision,
        dataset_digest=dataset.digest,
        validation_digest=validation.digest if validation else None,
        world_size=world_size,
    )
    return Sources(base, dataset, validation, identity)


def encode(config: FinetuneConfig, sources: Sources) -> Rows:
    """The rows as token ids with their supervised positions, once it is sure that they fit the GPU.

    Raises:
        DatasetError: rows that are too long or that the template cannot render, each by its line; where
            such rows are left out, none was left to learn from.
        TooBigError: this process has a GPU, and its memory is not enough.
    """
    tokenizer = load_tokenizer(sources.base)
    training = _encode(config, tokenizer, sources.dataset, config.data)
    if not training.examples:
        raise DatasetError(config.data, training.left_out)
    validation = _encode(config, tokenizer, sources.validation, config.validation)
    rows = Rows(
        training=training.examples,
        validation=validation.examples,
        pad_id=pad_id(tokenizer),
        template=template_hash(tokenizer),
        left_out=" ".join(_left_out(training, "learned from") + _left_out(validation, "held out")),
    )
    check_fits(config, sources.base, rows.training, sources.identity.world_size)
    return rows


def _encode(config: FinetuneConfig, tokenizer: Any, dataset: Dataset | None, source: str | None) -> Encoded:
    if not dataset or not source:
        return Encoded([], [], [])
    return encode_rows(
        tokenizer,
        dataset.chat_rows(),
        source=source,
        max_length=config.max_length,
        truncate=config.truncate,
        leave_out=config.leave_out,
    )


def _left_out(encoded: Encoded, purpose: str) -> list[str]:
    """A sentence about those of the rows to be ``purpose`` that were left out; none where none was."""
    problems = encoded.left_out
    if not problems:
        return []
    shown = [problem.sentence for problem in problems[:_SHOWN]]
    more = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
    total = len(problems) + len(encoded.examples)
    return [f"{len(problems)} of {total} rows to be {purpose} were left out: {'; '.join([*shown, *more])}."]


def _read(address: str) -> Dataset:
    with _as_file(address) as path:
        dataset = read_rows(path)
    dataset.chat_rows()
    return dataset


@contextmanager
def _as_file(address: str) -> Iterator[Path]:
    if "://" not in address:
        yield Path(address)
        return
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / address.rpartition("/")[2]
        try:
            fetch(address, local)
        except FileNotFoundError as error:
            raise UserError(f"{error}: upload it, or name another file") from None
        yield local


def _flat(identity: Identity) -> dict[str, Any]:
    values = asdict(identity)
    training: dict[str, Any] = values.pop("training")
    return training | {key.replace("_", " "): value for key, value in values.items()}
