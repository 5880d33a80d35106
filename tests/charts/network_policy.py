"""What NetworkPolicies allow, by the semantics that Kubernetes publishes.

https://kubernetes.io/docs/concepts/services-networking/network-policies/: a pod that no policy selects for a
direction is open in that direction; one that is selected lets through what any of the policies allows; a
connection needs its source's egress and its target's ingress. No network here enforces policies, so the tests
of what they mean are these, and nothing is said about any network plugin.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

Policy = Mapping[str, Any]
Labels = Mapping[str, str]


@dataclass(frozen=True)
class Pod:
    """A pod, or with no namespace an address outside the cluster."""

    name: str
    address: str
    namespace: str | None = None
    labels: Labels = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)
    """Its named ports."""

    def __hash__(self) -> int:
        return hash((self.name, self.namespace))


@dataclass(frozen=True)
class Cluster:
    """Policies, and the labels of namespaces."""

    policies: tuple[Policy, ...]
    namespaces: Mapping[str, Labels]

    def allows(self, source: Pod, target: Pod, port: int, protocol: str = "TCP") -> bool:
        """Whether a connection may be made."""
        leaves = self._passes("Egress", source, target, target, port, protocol)
        return leaves and self._passes("Ingress", target, source, target, port, protocol)

    def _passes(self, way: str, pod: Pod, peer: Pod, target: Pod, port: int, protocol: str) -> bool:
        if pod.namespace is None:
            return True  # policies are about pods
        selecting = [policy for policy in self.policies if _selects(policy, pod, way)]
        return not selecting or any(
            self._is_peer(rule.get("from" if way == "Ingress" else "to"), policy, peer)
            and _is_port(rule.get("ports"), target, port, protocol)
            for policy in selecting
            for rule in policy["spec"].get(way.lower()) or []
        )

    def _is_peer(self, peers: list[dict[str, Any]] | None, policy: Policy, pod: Pod) -> bool:
        return not peers or any(self._matches(peer, policy, pod) for peer in peers)

    def _matches(self, peer: dict[str, Any], policy: Policy, pod: Pod) -> bool:
        if block := peer.get("ipBlock"):
            inside = ip_address(pod.address) in ip_network(block["cidr"])
            return inside and not any(
                ip_address(pod.address) in ip_network(hole) for hole in block.get("except", [])
            )
        if pod.namespace is None:
            return False
        if "namespaceSelector" in peer:
            in_namespace = selects(peer["namespaceSelector"], self.namespaces[pod.namespace])
        else:
            in_namespace = pod.namespace == policy["metadata"]["namespace"]
        return in_namespace and selects(peer.get("podSelector") or {}, pod.labels)


def selects(selector: Mapping[str, Any] | None, labels: Labels) -> bool:
    """Whether a label selector matches; the empty one matches everything."""
    wanted = (selector or {}).get("matchLabels") or {}
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        _holds(expression, labels) for expression in (selector or {}).get("matchExpressions") or []
    )


def _holds(expression: Mapping[str, Any], labels: Labels) -> bool:
    key, values = expression["key"], expression.get("values", [])
    match expression["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    raise ValueError(f"{expression['operator']} is no operator of label selectors")


def _selects(policy: Policy, pod: Pod, way: str) -> bool:
    spec = policy["spec"]
    types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if "egress" in spec else [])]
    here = policy["metadata"]["namespace"] == pod.namespace
    return here and way in types and selects(spec["podSelector"], pod.labels)


def _is_port(ports: Iterable[Mapping[str, Any]] | None, target: Pod, port: int, protocol: str) -> bool:
    return not ports or any(_covers(entry, target, port, protocol) for entry in ports)


def _covers(entry: Mapping[str, Any], target: Pod, port: int, protocol: str) -> bool:
    if entry.get("protocol", "TCP") != protocol:
        return False
    if "port" not in entry:
        return True
    first = target.ports.get(entry["port"]) if isinstance(entry["port"], str) else entry["port"]
    return first is not None and first <= port <= entry.get("endPort", first)
