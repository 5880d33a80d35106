"""Prometheus metrics: names with units, labels with few values.

Metrics are made on first use and live in the process's default registry, so that gateway and control share
one page when they run in one process. A label never holds what a caller may choose freely.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Counter, Gauge, Histogram, generate_latest

# Seconds; from a health check to a long generation.
LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class HttpMetrics(NamedTuple):
    """What every HTTP component counts: labels ``component``, ``method``, ``route`` and ``status``."""

    requests: Counter
    seconds: Histogram
    in_flight: Gauge


@cache
def http() -> HttpMetrics:
    """The HTTP metrics of this process. ``route`` is the route's template, never the path asked for."""
    return HttpMetrics(
        counter(
            "onggi_http_requests_total", "HTTP requests answered", ("component", "method", "route", "status")
        ),
        histogram(
            "onggi_http_request_duration_seconds",
            "Seconds from a request's first byte to its answer's last",
            ("component", "method", "route"),
        ),
        gauge("onggi_http_requests_in_flight", "HTTP requests being answered now", ("component",)),
    )


def counter(name: str, documentation: str, labels: Sequence[str] = ()) -> Counter:
    """A counter of the default registry; ``name`` ends in ``_total``."""
    return Counter(name, documentation, labels)


def gauge(name: str, documentation: str, labels: Sequence[str] = ()) -> Gauge:
    """A gauge of the default registry."""
    return Gauge(name, documentation, labels)


def histogram(
    name: str, documentation: str, labels: Sequence[str] = (), buckets: Sequence[float] = LATENCY_BUCKETS
) -> Histogram:
    """A histogram of the default registry; ``name`` ends in its unit (default buckets: seconds)."""
    return Histogram(name, documentation, labels, buckets=buckets)


def exposition() -> tuple[bytes, str]:
    """The page that Prometheus scrapes, and its content type."""
    return generate_latest(REGISTRY), CONTENT_TYPE_LATEST
