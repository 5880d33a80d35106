import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from common.errors import run
from common.rows import held_out, read_rows
from jobs.prepare.__main__ import main
from jobs.prepare.folder import write_folder

ROOT = Path(__file__).parents[2]


def question(number: int) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "user", "content": f"Where is jar {number}?"},
            {"role": "assistant", "content": f"In yard {number}."},
        ]
    }


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "source.jsonl"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "data" / "support"


def write(path: Path, *values: Any) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


@pytest.fixture
def prepare(monkeypatch: pytest.MonkeyPatch, output: Path) -> Any:
    """Run the command's own entry in this process; the exit code."""

    def call(*argv: Any) -> int:
        arguments = [str(word) for word in argv]
        if "--output" not in arguments:
            arguments += ["--output", str(output)]
        monkeypatch.setattr(sys, "argv", ["prepare", *arguments])
        with pytest.raises(SystemExit) as caught:
            run(main)
        return int(caught.value.code or 0)

    return call


def messages(output: Path) -> list[list[dict[str, Any]]]:
    """The conversations of both files, in the order of their first question."""
    rows = [
        row
        for name in ("train.jsonl", "heldout.jsonl")
        if (output / name).stat().st_size
        for row in read_rows(output / name).chat_rows()
    ]
    return [row.messages for row in sorted(rows, key=lambda row: row.messages[-2]["content"])]


def test_chat_rows_are_split_by_the_hash_of_their_key(prepare: Any, source: Path, output: Path) -> None:
    write(source, *[question(number) for number in range(60)])
    assert prepare(source) == 0
    train, heldout = (read_rows(output / name) for name in ("train.jsonl", "heldout.jsonl"))
    assert len(train.rows) + len(heldout.rows) == 60
    assert 4 < len(heldout.rows) < 24
    assert not any(held_out(row.key) for row in train.rows)
    assert all(held_out(row.key) for row in heldout.rows)


def test_a_conversation_stays_on_its_side_when_the_dataset_grows(
    prepare: Any, source: Path, output: Path
) -> None:
    prepare(write(source, *[question(number) for number in range(30)]))
    before = {row.key for row in read_rows(output / "heldout.jsonl").rows}
    prepare(write(source, *[question(number) for number in reversed(range(60))]), "--force")
    after = {row.key for row in read_rows(output / "heldout.jsonl").rows}
    assert before < after


def test_rows_of_one_conversation_are_on_one_side(prepare: Any, source: Path, output: Path) -> None:
    rows = [question(number) | {"key": f"talk-{number % 10}"} for number in range(40)]
    assert prepare(write(source, *rows)) == 0
    sides = [{row.key for row in read_rows(output / name).rows} for name in ("train.jsonl", "heldout.jsonl")]
    assert not sides[0] & sides[1]


def test_the_manifest_names_source_form_counts_and_digests(prepare: Any, source: Path, output: Path) -> None:
    write(source, *[question(number) for number in range(20)])
    prepare(source, "--held-out", "0.3")
    manifest = json.loads((output / "manifest.json").read_text())
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert manifest["source"] == {"name": "source.jsonl", "sha256": f"sha256:{digest}", "form": "chat"}
    assert manifest["kind"] == "chat"
    assert manifest["held_out"] == 0.3
    for name, about in manifest["files"].items():
        dataset = read_rows(output / name)
        assert about["sha256"] == dataset.digest
        assert about["rows"] == about["conversations"] == len(dataset.rows)
        assert about["bytes"] == (output / name).stat().st_size


def test_the_summary_says_what_was_written(
    prepare: Any, source: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(write(source, *[question(number) for number in range(20)]))
    text = capsys.readouterr().out
    assert f"{source} (chat form) -> {output}\n" in text
    for name in ("train.jsonl", "heldout.jsonl"):
        assert f"{name:<13} {len(read_rows(output / name).rows):>6} rows" in text


def test_preference_rows_are_split_too(prepare: Any, source: Path, output: Path) -> None:
    rows = [
        {
            "input": {"messages": question(number)["messages"][:1]},
            "preferred_output": [{"role": "assistant", "content": "Yes."}],
            "non_preferred_output": [{"role": "assistant", "content": "No."}],
        }
        for number in range(20)
    ]
    assert prepare(write(source, *rows)) == 0
    assert read_rows(output / "train.jsonl").kind == "preference"
    assert json.loads((output / "manifest.json").read_text())["kind"] == "preference"


NO_ROBOTS = {
    "prompt": "Where is the jar?",
    "prompt_id": "p1",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Where is the jar?"},
        {"role": "assistant", "content": "In the yard."},
    ],
    "category": "Chat",
}
SHAREGPT = {
    "id": "s1",
    "system": "Be brief.",
    "conversations": [
        {"from": "human", "value": "Where is the jar?"},
        {"from": "gpt", "value": "In the yard."},
    ],
}
ALPACA = {"system": "Be brief.", "instruction": "Where is the jar?", "input": "", "output": "In the yard."}


@pytest.mark.parametrize(
    ("form", "record"), [("no_robots", NO_ROBOTS), ("sharegpt", SHAREGPT), ("alpaca", ALPACA)]
)
@pytest.mark.parametrize("container", ["lines", "array", "parquet"])
def test_each_form_in_each_container_becomes_the_same_conversation(
    prepare: Any, tmp_path: Path, output: Path, form: str, record: dict[str, Any], container: str
) -> None:
    source = tmp_path / "source"
    match container:
        case "lines":
            write(source, record)
        case "array":
            source.write_text(json.dumps([record], indent=2))
        case "parquet":
            write_parquet(source, record)
    assert prepare(source, "--held-out", "0") == 0
    assert messages(output) == [NO_ROBOTS["messages"]]
    assert json.loads((output / "manifest.json").read_text())["source"]["form"] == form


def write_parquet(path: Path, *records: dict[str, Any]) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(list(records)), path)


def test_columns_that_a_parquet_row_leaves_null_are_not_there(
    prepare: Any, tmp_path: Path, output: Path
) -> None:
    source = tmp_path / "rows.parquet"
    first = question(1) | {"source_id": None}
    first["messages"][1]["weight"] = 1
    write_parquet(source, first, question(2) | {"source_id": "x"})
    assert prepare(source, "--held-out", "0") == 0
    rows = read_rows(output / "train.jsonl").rows
    assert [row.source_id for row in rows] == [None, "x"]
    assert rows[1].messages == question(2)["messages"]


def test_alpacas_input_follows_its_instruction(prepare: Any, source: Path, output: Path) -> None:
    prepare(
        write(source, {"instruction": "Translate.", "input": "항아리", "output": "jar"}), "--held-out", "0"
    )
    assert messages(output)[0][0]["content"] == "Translate.\n\n항아리"


def test_source_ids_are_kept(prepare: Any, source: Path, output: Path) -> None:
    prepare(write(source, NO_ROBOTS), "--held-out", "0")
    assert read_rows(output / "train.jsonl").rows[0].source_id == "p1"


def test_configuration_comes_from_a_file_and_the_environment(
    prepare: Any, source: Path, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(source, *[question(number) for number in range(20)])
    config = tmp_path / "prepare.yaml"
    config.write_text(f"input: {source}\nheld_out: 0.9\nform: chat\n")
    monkeypatch.setenv("PREPARE_HELD_OUT", "0.5")
    assert prepare("--config", config) == 0
    assert json.loads((output / "manifest.json").read_text())["held_out"] == 0.5


def test_the_same_input_twice_changes_nothing(
    prepare: Any, source: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(source, *[question(number) for number in range(20)])
    assert prepare(source) == 0
    inode = output.stat().st_ino
    assert prepare(source) == 0
    assert "(it was there already)" in capsys.readouterr().out
    assert output.stat().st_ino == inode


def test_another_dataset_is_replaced_only_by_force(
    prepare: Any, source: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(write(source, *[question(number) for number in range(20)]))
    before = (output / "train.jsonl").read_bytes()
    write(source, *[question(number) for number in range(25)])
    assert prepare(source) == 2
    assert "holds another dataset: give another --output, or --force" in capsys.readouterr().err
    assert (output / "train.jsonl").read_bytes() == before
    assert prepare(source, "--force") == 0
    assert (output / "train.jsonl").read_bytes() != before
    assert sorted(path.name for path in output.parent.iterdir()) == ["support"]


def test_a_folder_with_other_files_is_never_replaced(
    prepare: Any, source: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output.mkdir(parents=True)
    (output / "thesis.txt").write_text("mine")
    assert prepare(write(source, question(1)), "--held-out", "0", "--force") == 2
    assert "holds other files (thesis.txt)" in capsys.readouterr().err
    assert (output / "thesis.txt").read_text() == "mine"


def test_a_disk_that_refuses_leaves_the_old_dataset_and_no_half(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from common.errors import UserError

    write_folder(output, {"train.jsonl": b"old"}, replace=False)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="cannot be written: No space left on device"):
        write_folder(output, {"train.jsonl": b"new"}, replace=True)
    assert (output / "train.jsonl").read_bytes() == b"old"
    assert [path.name for path in output.parent.iterdir()] == ["support"]


BAD_RECORDS = [
    ("sharegpt", {"conversations": "x"}, "line 1: conversations must be a list of turns"),
    (
        "sharegpt",
        {"conversations": [{"from": "robot", "value": "x"}]},
        "conversations[0].from = 'robot': it must be one of system, human",
    ),
    (
        "sharegpt",
        {"conversations": [{"from": "human"}]},
        "conversations[0] must have the keys from and value",
    ),
    ("sharegpt", {"conversations": [], "tools": "[]"}, "tools: not a key of this form"),
    ("sharegpt", SHAREGPT | {"conversations": SHAREGPT["conversations"][:1]}, "has no assistant message"),
    ("alpaca", {"instruction": "", "output": "x"}, "instruction must be a text that is not empty"),
    ("alpaca", {"instruction": "x"}, "output must be a text"),
    ("alpaca", {"instruction": "x", "input": 3, "output": "y"}, "input must be a text"),
    ("alpaca", ALPACA | {"history": []}, "history: not a key of this form"),
    ("no_robots", {"prompt": "x", "messages": []}, "has no assistant message"),
    ("no_robots", NO_ROBOTS | {"label": True}, "label: not a key of this form"),
    ("chat", {"messages": [{"role": "bot", "content": "x"}]}, "messages[0].role = 'bot'"),
    ("chat", ["x"], "is a JSON list, not an object"),
]


@pytest.mark.parametrize(("form", "record", "sentence"), BAD_RECORDS)
def test_a_bad_record_is_named_and_nothing_is_written(
    prepare: Any,
    tmp_path: Path,
    output: Path,
    capsys: pytest.CaptureFixture[str],
    form: str,
    record: Any,
    sentence: str,
) -> None:
    source = write(tmp_path / "source.jsonl", record, question(1)) if isinstance(record, dict) else None
    if source is None:
        source = tmp_path / "source.json"
        source.write_text(json.dumps([record]))
    assert prepare(source, "--form", form) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {source} ({form} form) cannot be used: ")
    assert sentence in error
    assert not output.exists()
    assert not output.parent.exists()


BAD_FILES = [
    (b"", "is empty: it needs at least one conversation"),
    (b'{"messages": [\xff]}\n', "line 1: is not UTF-8 (byte 15 is 0xff)"),
    (b'{"messages": [\n', "line 1: is not JSON"),
    (b'[{"messages": [\xff]}]', "line 1 is not UTF-8"),
    (b'[{"messages": []},\n{]', "line 2 is not JSON"),
    (b"[" * 100_000, "nested too deeply"),
    (b"PAR1 and no more", "is not Parquet that can be read"),
    (b'{"text": "x"}\n', "its form cannot be told from the keys of its first record (text): give --form"),
    (b"[3]", "its form cannot be told from the keys of its first record (none)"),
    (
        json.dumps(question(1)).encode() + b"\n" + json.dumps(question(2) | {"label": True}).encode(),
        "line 2: is a label row, but line 1 is a chat row",
    ),
]


@pytest.mark.parametrize(("content", "sentence"), BAD_FILES)
def test_a_file_that_cannot_be_read_is_named_and_nothing_is_written(
    prepare: Any,
    source: Path,
    output: Path,
    capsys: pytest.CaptureFixture[str],
    content: bytes,
    sentence: str,
) -> None:
    source.write_bytes(content)
    assert prepare(source) == 2
    error = capsys.readouterr().err
    assert str(source) in error
    assert sentence in error
    assert not output.exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["/nowhere.jsonl"], "/nowhere.jsonl cannot be read: No such file or directory"),
        (["/tmp"], "/tmp cannot be read: Is a directory"),
        (["x", "--held-out", "1"], "flags: held_out = '1': input should be less than 1"),
        (["x", "--form", "csv"], "flags: form = 'csv'"),
        (["x", "--split", "1"], "unrecognized arguments: --split 1"),
        ([], "input is missing"),
    ],
)
def test_a_wrong_command_line_is_a_sentence(
    prepare: Any, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert prepare(*arguments) == 2
    assert sentence in capsys.readouterr().err


def test_a_dataset_with_nothing_to_train_on_is_refused(
    prepare: Any, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = next(str(number) for number in range(100) if held_out(str(number)))
    assert prepare(write(source, question(1) | {"key": key})) == 2
    assert "every conversation is held out, so none is left to train on" in capsys.readouterr().err


def test_too_few_conversations_to_hold_any_out_is_said(
    prepare: Any, source: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = next(str(number) for number in range(100) if not held_out(str(number)))
    assert prepare(write(source, question(1) | {"key": key})) == 0
    assert "No conversation is held out" in capsys.readouterr().out
    assert (output / "heldout.jsonl").read_bytes() == b""


def command(*arguments: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jobs.prepare", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_exits_with_2_and_one_sentence_and_without_a_traceback(
    source: Path, output: Path, tmp_path: Path
) -> None:
    write(source, question(1), {"messages": [{"role": "user", "content": "x"}]})
    bad = command(source, "--output", output)
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr == (
        f"error: {source} (chat form) cannot be used: 1 line to mend\n"
        "  line 2: has no assistant message: there is nothing to learn\n"
    )
    config = tmp_path / "job.yaml"
    config.write_text("heldout: 0.1\n")
    unknown = command(source, "--output", output, "--config", config)
    assert unknown.returncode == 2
    assert unknown.stderr == f"error: {config}: heldout is not a known key: did you mean held_out?\n"
    assert not output.exists()


def test_the_command_writes_a_dataset(source: Path, output: Path) -> None:
    done = command(write(source, *[question(number) for number in range(20)]), "--output", output)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in output.iterdir()) == ["heldout.jsonl", "manifest.json", "train.jsonl"]
