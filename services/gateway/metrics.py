"""The gateway's own metrics: per version, which vLLM's metrics are not, and per replica."""

from collections.abc import Sized
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import Counter, Gauge, Histogram

from common.metrics import counter, gauge, histogram

if TYPE_CHECKING:
    from services.gateway.replica import Replica


class GatewayMetrics(NamedTuple):
    """``served`` is ``bot@7`` or a base model's name, never what a caller wrote."""

    completions: Counter
    tokens: Counter
    first_token: Histogram
    duration: Histogram
    open_commit: Histogram
    retries: Counter
    version_unavailable: Gauge
    shadows: Counter


class ReplicaMetrics(NamedTuple):
    """``replica`` is the address of one that is there now: the series go with it."""

    in_flight: Gauge
    up: Gauge


@cache
def gateway() -> GatewayMetrics:
    """The gateway's metrics in this process."""
    labels = ("served", "arm")
    return GatewayMetrics(
        counter("onggi_completions_total", "Completions by how they ended", (*labels, "status")),
        counter("onggi_tokens_total", "Tokens read (prompt) and written (completion)", (*labels, "kind")),
        histogram("onggi_time_to_first_token_seconds", "Seconds until a stream's first event", labels),
        histogram("onggi_completion_duration_seconds", "Seconds until a completion's end", labels),
        histogram(
            "onggi_open_row_commit_seconds",
            "Seconds from a stream's first byte until its open row was committed",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
        ),
        counter(
            "onggi_gateway_retries_total",
            "Requests asked of another replica before the first byte, by what went wrong",
            ("reason",),
        ),
        gauge(
            "onggi_gateway_version_unavailable",
            "Whether no replica can load a version that a bot's row says is served",
            ("served",),
        ),
        counter(
            "onggi_gateway_shadows_total",
            "Shadow answers by what became of them: stored, failed (stored as that), left out since callers "
            "wait (busy), or asked when nobody was there to answer (away)",
            ("outcome",),
        ),
    )


@cache
def _replicas() -> ReplicaMetrics:
    return ReplicaMetrics(
        gauge(
            "onggi_gateway_replica_requests_in_flight",
            "Requests of this gateway that a replica is answering now",
            ("replica",),
        ),
        gauge("onggi_gateway_replica_up", "Whether new requests go to a replica", ("replica",)),
    )


@cache
def _in_flight() -> Gauge:
    return gauge("onggi_gateway_requests_in_flight", "Completions that this gateway is answering now")


def watch_requests(running: Sized) -> None:
    """Let the gauge of requests in flight, by which gateways are scaled, say how many are ``running``."""
    _in_flight().set_function(lambda: len(running))


def watch_replica(replica: "Replica") -> None:
    """Let the gauges say how ``replica`` is whenever they are asked."""
    _replicas().in_flight.labels(replica.name).set_function(lambda: replica.in_flight)
    _replicas().up.labels(replica.name).set_function(lambda: replica.is_up)


def forget_replica(replica: "Replica") -> None:
    """Drop the series of a replica that left."""
    for each in _replicas():
        each.remove(replica.name)
