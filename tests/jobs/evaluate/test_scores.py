"""Which rows are judged on."""

import json
from pathlib import Path
from typing import Any

import pytest

from common.adapters import AdapterManifest
from common.models import default_cache_dir, resolve
from common.rows import DatasetError
from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.judge import load_sets
from jobs.evaluate.version import Version
from tests.demo import BASE


def written(path: Path, *questions: str) -> str:
    """A file of corrections, one a question."""
    answer, opinion = {"role": "assistant", "content": "Nine."}, {"kind": "correction", "rejected": "Ten."}
    rows = [{"messages": [{"role": "user", "content": text}, answer], "onggi": opinion} for text in questions]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_held_out_rows_that_cannot_be_used_are_left_out_where_training_left_such_out(
    base_model: Any, tmp_path: Path
) -> None:
    base = resolve(BASE, default_cache_dir())
    manifest = AdapterManifest(
        name="support-bot@1", base=base.name, revision=base.revision, rank=8, sha256="sha256:0", files={}
    )
    config = EvaluateConfig(
        version="support-bot@1", data=written(tmp_path / "held.jsonl", "jar " * 99, "When?", "<|im_end|>?"),
        regression=written(tmp_path / "regression.jsonl", "Which?"), max_length=64,
    )  # fmt: skip
    version = Version(config.name, manifest, base, None)
    with pytest.raises(DatasetError, match="2 lines to mend"):
        load_sets(config, version, tmp_path)
    leaving_out = config.model_copy(update={"leave_out": True})
    sets = load_sets(leaving_out, version, tmp_path)
    assert sets.held_out
    assert [row.line for row in sets.held_out.rows] == [2]
    assert (sets.opinions.places, list(sets.opinions.rejected)) == ([0], [0])
    data = written(tmp_path / "none.jsonl", "jar " * 99)
    assert load_sets(leaving_out.model_copy(update={"data": data}), version, tmp_path).held_out is None
