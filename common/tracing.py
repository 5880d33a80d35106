"""OpenTelemetry traces, sent by OTLP over HTTP when an endpoint is set, and free of cost when none is.

The endpoint is the standard ``OTEL_EXPORTER_OTLP_ENDPOINT``, which each process reads with its settings.
Prompt text never goes into a span.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry import propagate, trace
from opentelemetry.trace import Span, SpanKind

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_TRACER = "onggi"


def configure(component: str, endpoint: str) -> "TracerProvider | None":
    """Send this process's spans to the collector at ``endpoint``; nothing happens when it is empty.

    Returns the provider, whose ``shutdown()`` sends what is left; None when there is nothing to send to.
    """
    if not endpoint:
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from common.logging import project_version

    resource = Resource.create({"service.name": f"onggi-{component}", "service.version": project_version()})
    provider = TracerProvider(resource=resource)
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return provider


@contextmanager
def server_span(name: str, headers: Mapping[str, str]) -> Iterator[Span]:
    """A span of one request served here, continuing the caller's trace (``traceparent`` in ``headers``)."""
    with trace.get_tracer(_TRACER).start_as_current_span(
        name, context=propagate.extract(headers), kind=SpanKind.SERVER, record_exception=False
    ) as span:
        yield span


def outgoing_headers() -> dict[str, str]:
    """The headers that make the called server continue this trace; empty outside one."""
    headers: dict[str, str] = {}
    propagate.inject(headers)
    return headers


def current_trace_id() -> str | None:
    """The current trace's id as 32 hex digits, None outside a trace."""
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None
