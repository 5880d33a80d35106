"""Logs: one JSON object a line on stdout, in four streams, through structlog.

``training`` (epoch, step, loss, learning_rate, gpu_memory), ``inference`` (latency, tokens_generated,
throughput), ``system`` (gpu_utilization, memory_usage, temperature) and ``api`` (http_method, status_code,
response_time). Each line carries component, version and, inside a trace, trace_id. Prompt text and keys
never go into a log.
"""

import logging
import sys
from collections.abc import MutableMapping
from importlib.metadata import PackageNotFoundError, version
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any, Literal, cast

import structlog
from structlog.typing import FilteringBoundLogger, Processor

from common.errors import UserError

Stream = Literal["training", "inference", "system", "api"]


def project_version() -> str:
    """The installed version of onggi; ``dev`` when it runs from a checkout."""
    try:
        return version("onggi")
    except PackageNotFoundError:
        return "dev"


def configure(
    component: str, *, debug: bool = False, stream: Any = None, log_dir: Path | None = None
) -> None:
    """Set up structlog, and the standard library's loggers through it, for this process.

    ``stream`` is the file to write to, stdout by default; a job that draws a progress bar passes stderr.
    ``log_dir`` gets the same lines in ``<component>.log``, which may be moved away while it is written.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _identify(component),
        _add_trace_id,
        structlog.processors.format_exc_info,
    ]
    renderer = structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if debug else logging.INFO),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )
    root = logging.getLogger()
    root.handlers = [logging.StreamHandler(stream or sys.stdout), *_files(component, log_dir)]
    for handler in root.handlers:
        handler.setFormatter(formatter)
    root.setLevel(logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for each request says nothing new
    for package in ("common", "jobs", "services"):  # libraries' debug lines would drown ours
        logging.getLogger(package).setLevel(logging.DEBUG if debug else logging.INFO)


def get(stream: Stream) -> FilteringBoundLogger:
    """The logger of one of the four streams."""
    return cast(FilteringBoundLogger, structlog.get_logger(stream=stream))


def _files(component: str, log_dir: Path | None) -> list[logging.Handler]:
    if log_dir is None:
        return []
    try:
        log_dir.mkdir(parents=True, exist_ok=True)
        return [WatchedFileHandler(log_dir / f"{component}.log", encoding="utf-8")]
    except OSError as error:
        raise UserError(f"LOG_DIR={log_dir} cannot be written ({error.strerror}): choose another") from None


def _identify(component: str) -> Processor:
    release = project_version()

    def add(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event.setdefault("stream", "system")
        event["component"] = component
        event["version"] = release
        return event

    return add


def _add_trace_id(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    from opentelemetry import trace

    context = trace.get_current_span().get_span_context()
    event["trace_id"] = f"{context.trace_id:032x}" if context.is_valid else None
    return event
