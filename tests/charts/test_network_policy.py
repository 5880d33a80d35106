"""The evaluator of NetworkPolicies against what Kubernetes' documentation says of them."""

from typing import Any

import pytest

from tests.charts.network_policy import Cluster, Pod

NAMESPACES = {"here": {"team": "a"}, "there": {"team": "b"}}
WEB = Pod("web", "10.0.0.1", "here", {"app": "web"}, {"http": 80})
DATA = Pod("data", "10.0.0.2", "here", {"app": "data"}, {"sql": 5432})
FAR = Pod("far", "10.0.1.1", "there", {"app": "web"}, {"http": 80})
OUTSIDE = Pod("outside", "198.51.100.7")


def policy(selector: dict[str, Any], namespace: str = "here", **spec: Any) -> dict[str, Any]:
    """A NetworkPolicy."""
    return {"metadata": {"namespace": namespace}, "spec": {"podSelector": selector, **spec}}


def cluster(*policies: dict[str, Any]) -> Cluster:
    """Two namespaces with these policies."""
    return Cluster(policies, NAMESPACES)


def test_without_a_policy_everything_is_open() -> None:
    assert cluster().allows(WEB, DATA, 5432)
    assert cluster().allows(OUTSIDE, DATA, 22)


def test_an_empty_selector_with_no_rules_is_default_deny_for_its_namespace_alone() -> None:
    denying = cluster(policy({}, policyTypes=["Ingress"]))
    assert not denying.allows(WEB, DATA, 5432)
    assert not denying.allows(FAR, WEB, 80)
    assert denying.allows(WEB, FAR, 80), "egress is another direction, and there another namespace"


def test_default_deny_of_both_directions() -> None:
    denying = cluster(policy({}, policyTypes=["Ingress", "Egress"]))
    assert not denying.allows(WEB, FAR, 80)
    assert not denying.allows(WEB, OUTSIDE, 443)


def test_an_empty_rule_allows_all_and_no_rules_allow_none() -> None:
    assert cluster(policy({}, policyTypes=["Ingress"], ingress=[{}])).allows(OUTSIDE, WEB, 80)
    assert not cluster(policy({}, policyTypes=["Ingress"], ingress=[])).allows(OUTSIDE, WEB, 80)


def test_types_default_to_ingress_and_to_egress_where_it_has_rules() -> None:
    assert cluster(policy({}, ingress=[])).allows(WEB, OUTSIDE, 443)
    assert not cluster(policy({}, egress=[])).allows(WEB, OUTSIDE, 443)
    assert not cluster(policy({}, egress=[])).allows(OUTSIDE, WEB, 80)


def test_rules_of_several_policies_add_up() -> None:
    deny = policy({}, policyTypes=["Ingress"])
    from_web = policy({}, ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}]}])
    assert cluster(deny, from_web).allows(WEB, DATA, 5432)


@pytest.mark.parametrize(
    ("peer", "web", "far"),
    [
        ({"podSelector": {"matchLabels": {"app": "web"}}}, True, False),
        ({"podSelector": {}}, True, False),
        ({"namespaceSelector": {}}, True, True),
        ({"namespaceSelector": {"matchLabels": {"team": "b"}}}, False, True),
        ({"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "web"}}}, True, True),
        ({"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "x"}}}, False, False),
        ({"ipBlock": {"cidr": "10.0.0.0/16"}}, True, True),
        ({"ipBlock": {"cidr": "10.0.0.0/16", "except": ["10.0.1.0/24"]}}, True, False),
    ],
)  # fmt: skip
def test_peers(peer: dict[str, Any], web: bool, far: bool) -> None:
    rules = cluster(policy({"matchLabels": {"app": "data"}}, ingress=[{"from": [peer]}]))
    assert (rules.allows(WEB, DATA, 5432), rules.allows(FAR, DATA, 5432)) == (web, far)


def test_two_peers_are_an_or_and_one_peer_with_two_selectors_is_an_and() -> None:
    team, app = {"matchLabels": {"team": "b"}}, {"matchLabels": {"app": "web"}}
    either = policy({}, ingress=[{"from": [{"namespaceSelector": team}, {"podSelector": app}]}])
    both = policy({}, ingress=[{"from": [{"namespaceSelector": team, "podSelector": app}]}])
    assert cluster(either).allows(WEB, DATA, 5432)
    assert not cluster(both).allows(WEB, DATA, 5432)
    assert cluster(both).allows(FAR, DATA, 5432)


def test_who_is_outside_is_matched_by_address_alone() -> None:
    by_address = policy({}, ingress=[{"from": [{"ipBlock": {"cidr": "198.51.100.0/24"}}]}])
    by_selector = policy({}, ingress=[{"from": [{"namespaceSelector": {}}]}])
    assert cluster(by_address).allows(OUTSIDE, WEB, 80)
    assert not cluster(by_selector).allows(OUTSIDE, WEB, 80)


@pytest.mark.parametrize(
    ("ports", "allowed"),
    [
        ([{"port": 5432}], True),
        ([{"port": 5432, "protocol": "UDP"}], False),
        ([{"port": "sql"}], True),
        ([{"port": "http"}], False),
        ([{"port": 5000, "endPort": 6000}], True),
        ([{"port": 5433, "endPort": 6000}], False),
        ([{"protocol": "TCP"}], True),
        ([{"port": 80}, {"port": 5432}], True),
        ([], True),
    ],
)
def test_ports(ports: list[dict[str, Any]], allowed: bool) -> None:
    assert cluster(policy({}, ingress=[{"ports": ports}])).allows(WEB, DATA, 5432) is allowed


def test_the_sources_egress_and_the_targets_ingress_must_both_allow() -> None:
    out = policy({"matchLabels": {"app": "web"}}, egress=[{"to": [{"podSelector": {}}]}])
    in_ = policy({"matchLabels": {"app": "data"}}, ingress=[{"from": [{"podSelector": {}}]}])
    closed_out = policy({"matchLabels": {"app": "web"}}, egress=[])
    closed_in = policy({"matchLabels": {"app": "data"}}, ingress=[])
    assert cluster(out, in_).allows(WEB, DATA, 5432)
    assert not cluster(closed_out, in_).allows(WEB, DATA, 5432)
    assert not cluster(out, closed_in).allows(WEB, DATA, 5432)


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ({"operator": "In", "values": ["web", "other"]}, True),
        ({"operator": "NotIn", "values": ["web"]}, False),
        ({"operator": "Exists"}, True),
        ({"operator": "DoesNotExist"}, False),
    ],
)
def test_expressions(expression: dict[str, Any], allowed: bool) -> None:
    selector = {"matchExpressions": [{"key": "app", **expression}]}
    assert (
        cluster(policy({}, ingress=[{"from": [{"podSelector": selector}]}])).allows(WEB, DATA, 1) is allowed
    )
