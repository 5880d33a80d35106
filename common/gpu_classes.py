"""Node classes: which cards a cluster has, and which of them a piece of work goes to.

Classes come from the labels of GPU feature discovery, from the chart's ``gpu.classes``, or from both. A class
is named after its card: ``rtx5090``, ``rtx5060ti-16gb`` where a card comes with several sizes of memory.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from common.errors import TooBigError, UserError
from common.vram.cards import CARDS, MIB, card, sold_as
from common.vram.plan import Plan, gib

RESOURCE = "nvidia.com/gpu"
PRODUCT = "nvidia.com/gpu.product"
MEMORY = "nvidia.com/gpu.memory"
COUNT = "nvidia.com/gpu.count"
REPLICAS = "nvidia.com/gpu.replicas"
SHARED = "-SHARED"
"""What feature discovery appends to the product of a time-sliced card."""

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
_KEYS = {"name", "memory", "product", "count", "nodeSelector"}


@dataclass(frozen=True)
class NodeClass:
    """Cards of one kind, one of which a pod gets."""

    name: str
    memory_bytes: int
    """What one pod can count on: a card's memory, of a time-sliced card its share."""
    product: str
    """``nvidia.com/gpu.product`` of its nodes."""
    count: int
    """How many pods the class has cards for."""
    node_selector: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Labels that its nodes have, where feature discovery's would not find them."""

    @property
    def memory_label(self) -> str:
        """The memory as ``nvidia.com/gpu.memory`` states it."""
        return str(self.memory_bytes // MIB)


@dataclass(frozen=True)
class GpuNode:
    """A node whose cards can be used."""

    name: str
    class_name: str
    memory_mib: int
    """Its label, which for a time-sliced card is the whole card's."""


@dataclass(frozen=True)
class Fleet:
    """What a cluster has."""

    classes: tuple[NodeClass, ...]
    nodes: tuple[GpuNode, ...] = ()
    """The nodes it was read from; none where the classes were given."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Nodes whose cards cannot be used, each with the sentence that says why and the way out."""


def from_nodes(nodes: Iterable[Mapping[str, Any]]) -> Fleet:
    """The classes of a cluster's Node objects (as JSON); nodes without ``nvidia.com/gpu`` are left out."""
    classes: dict[str, NodeClass] = {}
    usable, refused = [], {}
    for node in nodes:
        name, labels, capacity = _facts(node)
        if not capacity:
            continue
        if sentence := _trouble(name, labels, capacity):
            refused[name] = sentence
            continue
        found = _class_of(labels, capacity)
        classes[found.name] = _joined(classes.get(found.name), found)
        usable.append(GpuNode(name, found.name, int(labels[MEMORY])))
    return Fleet(_by_memory(classes.values()), tuple(usable), refused)


def from_values(values: Sequence[Mapping[str, Any]]) -> Fleet:
    """The classes of the chart's ``gpu.classes``: a list of names of known cards, or of whole descriptions.

    ``{name: rtx5060ti-16gb}`` is enough for a known card; ``memory`` is in MiB, as the label states it.

    Raises:
        UserError: a key is unknown, or a card is not known and not described.
    """
    return Fleet(_by_memory(_given(index, value) for index, value in enumerate(values)))


def merged(discovered: Fleet, given: Fleet) -> Fleet:
    """``gpu.classes`` overrides what the labels say, class by class."""
    names = {found.name for found in given.classes}
    others = [found for found in discovered.classes if found.name not in names]
    return Fleet(_by_memory([*given.classes, *others]), discovered.nodes, discovered.refused)


def choose(work: Plan | int, fleet: Fleet | Sequence[NodeClass], wanted: str | None = None) -> NodeClass:
    """The class with the least memory that holds ``work`` (a plan or bytes), so that larger cards stay free.

    Raises:
        TooBigError: no class holds it, or not the ``wanted`` one; the sentence says what would fit.
        UserError: there is no usable card, or no class of that name.
    """
    fleet = fleet if isinstance(fleet, Fleet) else Fleet(tuple(fleet))
    if not fleet.classes:
        raise UserError(_nothing_usable(fleet))
    candidates = _named(fleet, wanted) if wanted else fleet.classes
    total = work.total if isinstance(work, Plan) else work
    fitting = [found for found in candidates if total <= found.memory_bytes]
    if fitting:
        return min(fitting, key=lambda found: found.memory_bytes)
    raise _too_big(work, max(candidates, key=lambda found: found.memory_bytes), fleet)


def node_affinity(chosen: NodeClass, work: Plan | int, fleet: Fleet) -> dict[str, Any]:
    """``nodeAffinity`` for a pod of ``work``: enough memory is required, the chosen card is preferred.

    Nodes whose label promises more than they have for one pod (mixed, time-sliced, overridden) are left out
    by name.
    """
    if chosen.node_selector:
        selector = [_is_in(key, value) for key, value in sorted(chosen.node_selector.items())]
        return {_REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": selector}]}}
    total = work.total if isinstance(work, Plan) else work
    enough = {"key": MEMORY, "operator": "Gt", "values": [str(-(-total // MIB) - 1)]}
    term: dict[str, Any] = {"matchExpressions": [enough]}
    if misleading := _misleading(total, fleet):
        # A term takes one name for each expression.
        term["matchFields"] = [
            {"key": "metadata.name", "operator": "NotIn", "values": [name]} for name in misleading
        ]
    preferred = [_is_in(PRODUCT, chosen.product)]
    return {
        _REQUIRED: {"nodeSelectorTerms": [term]},
        _PREFERRED: [
            {"weight": 100, "preference": {"matchExpressions": preferred}},
            {"weight": 50, "preference": {"matchExpressions": [_is_in(MEMORY, chosen.memory_label)]}},
        ],
    }


def class_name(product: str, memory_mib: int) -> str:
    """``rtx5090`` for ``NVIDIA-GeForce-RTX-5090``; with the memory where a card comes with several sizes."""
    base = product.removesuffix(SHARED)
    sold = [known for known in CARDS if known.product == base]
    if len(sold) == 1:
        return sold[0].name
    plain = base.removeprefix("NVIDIA-").removeprefix("GeForce-").replace("-", "").lower()
    return f"{plain}-{sold_as(memory_mib * MIB)}gb"


def _facts(node: Mapping[str, Any]) -> tuple[str, dict[str, str], int]:
    metadata = node.get("metadata") or {}
    capacity = (node.get("status") or {}).get("capacity") or {}
    return str(metadata.get("name")), dict(metadata.get("labels") or {}), int(capacity.get(RESOURCE, 0))


def _trouble(name: str, labels: Mapping[str, str], capacity: int) -> str | None:
    """Why a node's cards cannot be told apart or sized."""
    if not labels.get(MEMORY, "").isdigit() or not labels.get(PRODUCT):
        return (
            f"node {name} has {capacity} {RESOURCE} and no label {MEMORY}: install GPU feature discovery "
            "(charts/gpu has it), or describe its cards in gpu.classes"
        )
    labelled = _number(labels, COUNT) * max(1, _number(labels, REPLICAS))
    if labelled < capacity:
        return (
            f"node {name} has mixed cards: its labels speak of {labelled} of {labels[PRODUCT]} and it has "
            f"{capacity} {RESOURCE}, so a pod may get a card of another kind: keep one kind of card in a "
            "node, or give them out by NVIDIA's DRA driver (https://github.com/NVIDIA/k8s-dra-driver-gpu)"
        )
    return None


def _class_of(labels: Mapping[str, str], capacity: int) -> NodeClass:
    product, memory = labels[PRODUCT], int(labels[MEMORY])
    share = max(1, _number(labels, REPLICAS))
    name = class_name(product, memory) + (f"-shared-{share}" if share > 1 else "")
    return NodeClass(name, memory * MIB // share, product, capacity)


def _joined(earlier: NodeClass | None, found: NodeClass) -> NodeClass:
    """A class has the memory of its smallest card: cards of one name differ by some MiB (ECC, vendor)."""
    if earlier is None:
        return found
    memory = min(earlier.memory_bytes, found.memory_bytes)
    return replace(earlier, memory_bytes=memory, count=earlier.count + found.count)


def _number(labels: Mapping[str, str], key: str) -> int:
    value = labels.get(key, "")
    return int(value) if value.isdigit() else 0


def _given(index: int, value: Mapping[str, Any]) -> NodeClass:
    place = f"gpu.classes[{index}]"
    if unknown := set(value) - _KEYS:
        raise UserError(f"{place}: {', '.join(sorted(unknown))} is not a key: use {', '.join(sorted(_KEYS))}")
    name = str(value.get("name") or "")
    known = card(name)
    memory = value.get("memory") or (known.memory_mib if known else None)
    if not name or not memory:
        names = ", ".join(found.name for found in CARDS)
        raise UserError(f"{place}: give name and memory (MiB, as nvidia-smi states it), or a name of {names}")
    if not str(memory).isdigit():
        raise UserError(f"{place}: memory {memory} is not a whole number of MiB, such as 16311")
    product = str(value.get("product") or (known.product if known else ""))
    count, selector = int(value.get("count") or 1), dict(value.get("nodeSelector") or {})
    return NodeClass(name, int(memory) * MIB, product, count, selector)


def _by_memory(classes: Iterable[NodeClass]) -> tuple[NodeClass, ...]:
    return tuple(sorted(classes, key=lambda found: (found.memory_bytes, found.name)))


def _named(fleet: Fleet, wanted: str) -> list[NodeClass]:
    found = [known for known in fleet.classes if known.name == wanted]
    if not found:
        names = ", ".join(dict.fromkeys(known.name for known in fleet.classes))
        raise UserError(f"node class {wanted} is not in this cluster: it has {names}{_refusals(fleet)}")
    return found


def _nothing_usable(fleet: Fleet) -> str:
    if fleet.refused:
        return "; ".join(fleet.refused.values())
    return (
        f"no node offers {RESOURCE}: install NVIDIA's device plugin (charts/gpu has it), or describe the "
        "cards in gpu.classes where control may not read nodes"
    )


def _too_big(work: Plan | int, largest: NodeClass, fleet: Fleet) -> TooBigError:
    place = f"the largest card, {largest.name},"
    if isinstance(work, Plan):
        error = str(work.too_big(largest.memory_bytes, place))
    else:
        error = f"{gib(work)} are needed; {place} has {gib(largest.memory_bytes)}"
    return TooBigError(error + _refusals(fleet))


def _refusals(fleet: Fleet) -> str:
    return "".join(f". Left out: {sentence}" for sentence in fleet.refused.values())


def _misleading(total: int, fleet: Fleet) -> list[str]:
    """Nodes that the memory label alone would let through."""
    small = {found.name for found in fleet.classes if found.memory_bytes < total}
    names = [node.name for node in fleet.nodes if node.class_name in small and node.memory_mib * MIB >= total]
    return sorted([*fleet.refused, *names])


def _is_in(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "operator": "In", "values": [value]}
