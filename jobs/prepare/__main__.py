"""``python -m jobs.prepare``: see the package."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from pydantic_settings import CliPositionalArg, SettingsConfigDict

from common.errors import UserError, run
from common.job_config import JobConfig, parse
from common.rows import HELD_OUT_FRACTION, Row, held_out
from jobs.prepare.folder import HELD_OUT, MANIFEST, TRAIN, digest, to_json, to_json_lines, write_folder
from jobs.prepare.forms import Form, Source, read_source


class PrepareConfig(JobConfig):
    """Make a dataset of conversations: train.jsonl, heldout.jsonl and manifest.json."""

    model_config = SettingsConfigDict(env_prefix="PREPARE_")

    input: CliPositionalArg[Path] = Field(description="JSON Lines, a JSON array or Parquet")
    output: Path = Field(description="folder to write; it appears when it is whole")
    form: Literal["auto", Form] = Field("auto", description="how INPUT writes a conversation")
    held_out: float = Field(HELD_OUT_FRACTION, ge=0, lt=1, description="share of conversations held out")
    force: bool = Field(False, description="replace another dataset in the output folder")


def main() -> None:
    """Read the configuration, write the dataset, say what was written."""
    config = parse(PrepareConfig, sys.argv[1:], prog="python -m jobs.prepare")
    print(prepare(config))


def prepare(config: PrepareConfig) -> str:
    """Write the dataset and return a summary of it for people.

    Raises:
        UserError: the input cannot be used, or the output folder holds something else.
    """
    source = read_source(config.input, config.form)
    train, heldout = split(source.rows, config.held_out)
    if not train:
        raise UserError(
            f"{config.input}: every conversation is held out, so none is left to train on: "
            "add conversations or lower --held-out"
        )
    files = {TRAIN: to_json_lines(train), HELD_OUT: to_json_lines(heldout)}
    manifest = make_manifest(config, source, {TRAIN: train, HELD_OUT: heldout}, files)
    files[MANIFEST] = to_json(manifest)
    changed = write_folder(config.output, files, replace=config.force)
    return summary(config, manifest, changed)


def split(rows: Sequence[Row], fraction: float) -> tuple[list[Row], list[Row]]:
    """The rows to train on and those held out; all rows of one conversation key are on one side."""
    train = [row for row in rows if not held_out(row.key, fraction)]
    return train, [row for row in rows if held_out(row.key, fraction)]


def make_manifest(
    config: PrepareConfig, source: Source, rows: Mapping[str, Sequence[Row]], files: Mapping[str, bytes]
) -> dict[str, Any]:
    """What the dataset was made of; it holds no time, so the same input gives the same bytes."""
    return {
        "source": {"name": config.input.name, "sha256": source.digest, "form": source.form},
        "kind": source.rows[0].kind,
        "held_out": config.held_out,
        "files": {
            name: {
                "rows": len(rows[name]),
                "conversations": len({row.key for row in rows[name]}),
                "bytes": len(content),
                "sha256": digest(content),
            }
            for name, content in files.items()
        },
    }


def summary(config: PrepareConfig, manifest: Mapping[str, Any], changed: bool) -> str:
    """A few lines for people."""
    state = "" if changed else " (it was there already)"
    lines = [f"{config.input} ({manifest['source']['form']} form) -> {config.output}{state}"]
    for name, about in manifest["files"].items():
        counts = f"{about['rows']:>6} rows, {about['conversations']:>6} conversations"
        lines.append(f"  {name:<13} {counts}  {about['sha256']}")
    if config.held_out and not manifest["files"][HELD_OUT]["rows"]:
        lines.append(
            "  No conversation is held out: there are too few of them for a version to be judged by."
        )
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
