"""The metrics page."""

from prometheus_client.parser import text_string_to_metric_families

from common import metrics


def test_the_page_is_readable_by_prometheus_and_names_carry_units() -> None:
    metrics.http().requests.labels("metrics-test", "GET", "/x", "200").inc()
    page, content_type = metrics.exposition()
    families = {family.name for family in text_string_to_metric_families(page.decode())}
    assert {
        "onggi_http_requests",
        "onggi_http_request_duration_seconds",
        "onggi_http_requests_in_flight",
    } <= families
    assert content_type.startswith("text/plain")


def test_metrics_are_made_once_a_process() -> None:
    assert metrics.http() is metrics.http()
