"""The gateway's own metrics: per version, which vLLM's metrics are not."""

from functools import cache
from typing import NamedTuple

from prometheus_client import Counter, Histogram

from common.metrics import counter, histogram


class GatewayMetrics(NamedTuple):
    """``served`` is ``bot@7`` or a base model's name, never what a caller wrote."""

    completions: Counter
    tokens: Counter
    first_token: Histogram
    duration: Histogram
    open_commit: Histogram


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
    )
