"""common.logging: one JSON object a line, each with its stream, component and version."""

import io
import json
import logging as standard
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider

from common import logging
from common.errors import UserError


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = standard.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_every_line_says_its_stream_component_and_version() -> None:
    stream = io.StringIO()
    logging.configure("trainer", stream=stream)
    logging.get("training").info("step", epoch=1, step=7, loss=0.5, learning_rate=1e-3, gpu_memory=None)
    standard.getLogger("some.library").warning("careful")
    ours, theirs = lines(stream)
    assert ours["stream"] == "training"
    assert (ours["step"], ours["loss"], ours["trace_id"]) == (7, 0.5, None)
    assert theirs["stream"] == "system"
    assert theirs["event"] == "careful"
    assert ours["component"] == theirs["component"] == "trainer"
    assert ours["version"] == theirs["version"] == logging.project_version()


def test_inside_a_trace_its_id_is_on_the_line() -> None:
    stream = io.StringIO()
    logging.configure("gateway", stream=stream)
    with TracerProvider().get_tracer("test").start_as_current_span("request") as span:
        logging.get("api").info("request")
    assert lines(stream)[0]["trace_id"] == f"{span.get_span_context().trace_id:032x}"


def test_debug_is_ours_and_not_every_librarys() -> None:
    stream = io.StringIO()
    logging.configure("control", debug=True, stream=stream)
    standard.getLogger("services.control").debug("ours")
    standard.getLogger("some.library").debug("theirs")
    assert [line["event"] for line in lines(stream)] == ["ours"]


def test_an_exception_is_one_line() -> None:
    stream = io.StringIO()
    logging.configure("control", stream=stream)
    try:
        raise ValueError("broken")
    except ValueError:
        logging.get("system").exception("it failed")
    (line,) = lines(stream)
    assert "ValueError: broken" in str(line["exception"])


def test_a_log_folder_gets_the_same_lines_and_one_that_cannot_be_written_is_a_sentence(
    tmp_path: Path,
) -> None:
    stream = io.StringIO()
    logging.configure("ui", stream=stream, log_dir=tmp_path / "logs")
    logging.get("system").info("started")
    assert (tmp_path / "logs" / "ui.log").read_text() == stream.getvalue()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="LOG_DIR"):
        logging.configure("ui", log_dir=tmp_path / "file" / "logs")
