"""Make a dataset of what people said about a bot's answers, to look at before anything is trained on it.

    python -m jobs.curate support-bot --output curated

Writes train.jsonl, heldout.jsonl, preferences.jsonl and labels.jsonl, where there are rows for them, and
manifest.json with digest, counts, the ids that the rows came from, and what was left out and why. Personal
data is replaced by its kind. The same words give the same bytes. ``jobs.retrain`` does the same in memory:
a folder of people's words outlives their erasure, so delete it when you have looked.
"""

import sys
from pathlib import Path

from pydantic import Field
from pydantic_settings import CliPositionalArg, SettingsConfigDict

from common import logging
from common.errors import run
from common.job_config import parse
from jobs.curate.config import CurateOptions
from jobs.curate.curating import connect, curate
from jobs.curate.dataset import Curated, manifest
from jobs.prepare.folder import MANIFEST, write_folder


class CurateConfig(CurateOptions):
    """Make a dataset of what people said: rows to train on, rows to judge on, and a manifest."""

    model_config = SettingsConfigDict(env_prefix="CURATE_")

    bot: CliPositionalArg[str] = Field(description="whose answers")
    output: Path = Field(description="folder to write; it appears when it is whole")
    force: bool = Field(False, description="replace another dataset in the output folder")


def main() -> None:
    """Read the configuration, write the dataset, say what it holds."""
    config = parse(CurateConfig, sys.argv[1:], prog="python -m jobs.curate")
    logging.configure("curate")
    curated = curate(connect(config), config.bot, config)
    write_folder(
        config.output, curated.files | {MANIFEST: manifest(curated, config.bot)}, replace=config.force
    )
    print(report(curated, config))


def report(curated: Curated, config: CurateConfig) -> str:
    """A few lines for people."""
    lines = [f"{config.bot} -> {config.output}  {curated.digest}"]
    lines += [f"  {name:<18} {rows:>6} rows" for name, rows in curated.figures["rows"].items() if rows]
    lines += [f"  {kind} replaced {count} times" for kind, count in curated.figures["personal_data"].items()]
    lines += [f"  left out: {left.id}, {left.kind} row: {left.reason}" for left in curated.left_out]
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
