"""Node classes from labels as GPU feature discovery writes them, and where work goes."""

import re
from typing import Any

import pytest

from common import gpu_classes, vram
from common.errors import EXIT_CONFIGURATION, EXIT_TOO_BIG, TooBigError, UserError
from common.gpu_classes import Fleet, choose, from_nodes, from_values, merged, node_affinity
from common.vram import Plan, plan_training

GIB, MIB = 1 << 30, 1 << 20
RTX5090 = ("NVIDIA-GeForce-RTX-5090", 32607)
RTX5060TI = ("NVIDIA-GeForce-RTX-5060-Ti", 16311)
RTX5060TI_8 = ("NVIDIA-GeForce-RTX-5060-Ti", 8151)


def node(
    name: str, card: tuple[str, int], count: int = 1, *, capacity: int | None = None, replicas: int = 1
) -> dict[str, Any]:
    """A Node as the API server gives it."""
    product, memory = card
    labels = {
        "kubernetes.io/hostname": name,
        "nvidia.com/gpu.product": product + ("-SHARED" if replicas > 1 else ""),
        "nvidia.com/gpu.memory": str(memory),
        "nvidia.com/gpu.count": str(count),
        "nvidia.com/gpu.replicas": str(replicas),
    }
    offered = count * replicas if capacity is None else capacity
    return {
        "metadata": {"name": name, "labels": labels},
        "status": {"capacity": {"cpu": "16", "nvidia.com/gpu": str(offered)}},
    }


FLEET = [
    node("big-1", RTX5090),
    node("big-2", RTX5090, 2),
    node("small-1", RTX5060TI),
    node("tiny-1", RTX5060TI_8),
    node("mixed-1", RTX5090, 1, capacity=2),
    {"metadata": {"name": "cpu-1", "labels": {}}, "status": {"capacity": {"cpu": "4"}}},
]


def plan(method: Any, length: int = 1024, batch: int = 1) -> Plan:
    shape = vram.known("Llama-3.1-8B-Instruct")
    assert shape
    return plan_training(shape, method, length=length, batch=batch)


def test_a_fleet_is_read_from_labels() -> None:
    fleet = from_nodes(FLEET)
    found = [(known.name, known.memory_bytes // MIB, known.count) for known in fleet.classes]
    assert found == [("rtx5060ti-8gb", 8151, 1), ("rtx5060ti-16gb", 16311, 1), ("rtx5090", 32607, 3)]
    assert list(fleet.refused) == ["mixed-1"]


def test_lora_goes_to_a_5090_and_qlora_to_the_16_gb_card() -> None:
    fleet = from_nodes(FLEET)
    assert choose(plan("lora"), fleet).name == "rtx5090"
    assert choose(plan("qlora"), fleet).name == "rtx5060ti-16gb"
    assert choose(plan("qlora", length=2048), fleet).name == "rtx5090"


def test_an_8_gb_card_is_not_taken_for_one_with_16() -> None:
    with pytest.raises(TooBigError, match=r"the largest card, rtx5060ti-8gb, has 8\.0 GiB"):
        choose(plan("qlora"), from_nodes([node("tiny-1", RTX5060TI_8)]))


def test_a_mixed_node_is_refused_with_the_way_out() -> None:
    sentence = (
        "node mixed-1 has mixed cards: its labels speak of 1 of NVIDIA-GeForce-RTX-5090 and it has 2 "
        "nvidia.com/gpu, so a pod may get a card of another kind: keep one kind of card in a node, or give "
        "them out by NVIDIA's DRA driver (https://github.com/NVIDIA/k8s-dra-driver-gpu)"
    )
    only_mixed = from_nodes([node("mixed-1", RTX5090, 1, capacity=2)])
    with pytest.raises(UserError, match=re.escape(sentence)) as caught:
        choose(plan("lora"), only_mixed)
    assert caught.value.exit_code == EXIT_CONFIGURATION


def test_what_fits_no_card_is_refused_with_what_would_fit() -> None:
    with pytest.raises(TooBigError) as caught:
        choose(plan("lora", length=2048, batch=4), from_nodes(FLEET))
    assert caught.value.exit_code == EXIT_TOO_BIG
    sentence = str(caught.value)
    assert sentence.startswith("LoRA of Llama-3.1-8B-Instruct, rank 16, batch 4 x 2048 tokens needs ")
    assert "the largest card, rtx5090, has 31.8 GiB. Would fit: --max-length " in sentence
    assert "--method qlora --batch-size 1 --gradient-accumulation 4" in sentence
    assert "or a card with 80 GB" in sentence
    assert "Left out: node mixed-1 has mixed cards" in sentence


def test_a_class_can_be_wanted_by_name() -> None:
    fleet = from_nodes(FLEET)
    assert choose(plan("qlora"), fleet, wanted="rtx5090").name == "rtx5090"
    with pytest.raises(TooBigError, match="rtx5060ti-16gb, has"):
        choose(plan("lora"), fleet, wanted="rtx5060ti-16gb")
    with pytest.raises(UserError, match="node class a100 is not in this cluster: it has rtx5060ti-8gb, "):
        choose(plan("lora"), fleet, wanted="a100")


def test_a_time_sliced_card_counts_with_its_share() -> None:
    fleet = from_nodes([node("shared-1", RTX5090, replicas=4)])
    (shared,) = fleet.classes
    assert (shared.name, shared.memory_bytes, shared.count) == ("rtx5090-shared-4", 32607 * MIB // 4, 4)
    assert shared.product == "NVIDIA-GeForce-RTX-5090-SHARED"
    with pytest.raises(TooBigError):
        choose(9 * GIB, fleet)


def test_more_is_offered_than_a_time_sliced_node_explains() -> None:
    assert from_nodes([node("odd-1", RTX5090, 1, replicas=2, capacity=4)]).refused.keys() == {"odd-1"}


def test_a_node_without_labels_names_feature_discovery() -> None:
    bare = {"metadata": {"name": "bare-1"}, "status": {"capacity": {"nvidia.com/gpu": "1"}}}
    with pytest.raises(UserError, match=r"node bare-1 has 1 nvidia\.com/gpu and no label nvidia\.com"):
        choose(GIB, from_nodes([bare]))


def test_no_card_at_all_names_the_device_plugin() -> None:
    with pytest.raises(UserError, match=r"no node offers nvidia.com/gpu: install NVIDIA's device plugin"):
        choose(GIB, from_nodes([]))


def test_a_card_that_is_not_known_is_named_after_its_product_and_memory() -> None:
    fleet = from_nodes([node("a-1", ("NVIDIA-RTX-PRO-6000-Blackwell", 97887))])
    assert fleet.classes[0].name == "rtxpro6000blackwell-96gb"


def test_cards_of_one_name_are_one_class_with_the_least_memory() -> None:
    fleet = from_nodes([node("a", RTX5090), node("b", (RTX5090[0], 32100))])
    assert [(known.memory_bytes // MIB, known.count) for known in fleet.classes] == [(32100, 2)]


def test_classes_are_given_by_name_or_described() -> None:
    described = {"name": "workshop", "memory": 24564, "product": "NVIDIA-GeForce-RTX-4090", "count": 2}
    fleet = from_values([{"name": "rtx5060ti-16gb"}, described])
    found = [(known.name, known.memory_bytes // MIB, known.product, known.count) for known in fleet.classes]
    assert found == [
        ("rtx5060ti-16gb", 16311, "NVIDIA-GeForce-RTX-5060-Ti", 1),
        ("workshop", 24564, "NVIDIA-GeForce-RTX-4090", 2),
    ]


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({"name": "rtx9090"}, r"gpu.classes\[0\]: give name and memory \(MiB, as nvidia-smi states it\)"),
        ({"name": "x", "memory": "16Gi"}, r"gpu.classes\[0\]: memory 16Gi is not a whole number of MiB"),
        ({"name": "rtx5090", "cound": 1}, r"gpu.classes\[0\]: cound is not a key: use count, memory, name"),
    ],
)
def test_a_wrong_class_is_a_sentence_with_its_place(value: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        from_values([value])


def test_given_classes_override_what_labels_cannot_tell() -> None:
    """Two 5060 Ti of 8 and 16 GB in one node have the first one's label."""
    discovered = from_nodes([node("pair-1", RTX5060TI, 2)])
    fleet = merged(discovered, from_values([{"name": "rtx5060ti-16gb", "memory": 8151, "count": 2}]))
    assert [known.memory_bytes // MIB for known in fleet.classes] == [8151]
    with pytest.raises(TooBigError):
        choose(10 * GIB, fleet)


def test_affinity_requires_the_memory_and_prefers_the_card() -> None:
    fleet = from_nodes(FLEET)
    work = plan("qlora")
    affinity = node_affinity(choose(work, fleet), work, fleet)
    (term,) = affinity[gpu_classes._REQUIRED]["nodeSelectorTerms"]
    (memory,) = term["matchExpressions"]
    assert memory["key"] == "nvidia.com/gpu.memory"
    assert memory["operator"] == "Gt"
    assert 8151 < int(memory["values"][0]) < 16311
    assert int(memory["values"][0]) < work.total / MIB <= int(memory["values"][0]) + 1
    assert term["matchFields"] == [{"key": "metadata.name", "operator": "NotIn", "values": ["mixed-1"]}]
    product, size = affinity[gpu_classes._PREFERRED]
    assert product["preference"]["matchExpressions"][0]["values"] == ["NVIDIA-GeForce-RTX-5060-Ti"]
    assert size["preference"]["matchExpressions"][0]["values"] == ["16311"]


def test_affinity_leaves_out_nodes_whose_label_promises_too_much() -> None:
    fleet = from_nodes([node("whole-1", RTX5090), node("shared-1", RTX5090, replicas=4)])
    affinity = node_affinity(choose(20 * GIB, fleet), 20 * GIB, fleet)
    (term,) = affinity[gpu_classes._REQUIRED]["nodeSelectorTerms"]
    assert [field["values"] for field in term["matchFields"]] == [["shared-1"]]


def test_a_class_with_a_selector_of_its_own_goes_by_it() -> None:
    fleet = from_values([{"name": "rtx5090", "nodeSelector": {"kubernetes.io/hostname": "gpu-1"}}])
    affinity = node_affinity(choose(20 * GIB, fleet), 20 * GIB, fleet)
    assert affinity == {
        gpu_classes._REQUIRED: {
            "nodeSelectorTerms": [
                {
                    "matchExpressions": [
                        {"key": "kubernetes.io/hostname", "operator": "In", "values": ["gpu-1"]}
                    ]
                }
            ]
        }
    }


def test_a_plain_list_of_classes_is_a_fleet() -> None:
    assert choose(20 * GIB, from_values([{"name": "rtx5090"}]).classes).name == "rtx5090"
    with pytest.raises(UserError):
        choose(1, Fleet(()))
