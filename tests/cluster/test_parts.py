import string

import pytest
import yaml

from common.errors import UserError
from tests.cluster import fleet, parts
from tests.cluster.gpus import CARDS, labels
from tests.cluster.kind import Kind
from tests.cluster.machine import Machine
from tests.cluster.place import place

WITH_MANIFEST = [part for part in parts.PARTS.values() if part.manifest]


@pytest.mark.parametrize("part", WITH_MANIFEST, ids=lambda part: part.name)
def test_a_manifest_asks_for_nothing_but_its_part_s_images(part: parts.Part) -> None:
    template = string.Template((parts.MANIFESTS / f"{part.name}.yaml").read_text())
    known = {f"image_{name.replace('-', '_')}" for name in part.images}

    assert template.is_valid()
    asked = set(template.get_identifiers())
    assert known <= asked <= known | {"dns", "state", "http", "https"}
    objects = list(yaml.safe_load_all(template.substitute(dict.fromkeys(asked, "10.0.0.1"))))
    assert all(entry["kind"] for entry in objects)


def test_kind_brings_dns_and_storage_itself() -> None:
    wanted = ["dns", "storage", "metrics"]

    assert [part.name for part in parts.chosen(wanted, Kind(place()))] == ["metrics"]
    assert [part.name for part in parts.chosen(wanted, Machine(place()))] == wanted


def test_an_unknown_part_is_refused_with_those_there_are() -> None:
    with pytest.raises(UserError, match="there is no part mesh: choose of dns, storage"):
        parts.chosen(["mesh"], Machine(place()))


def test_the_fleet_has_every_class_and_one_mixed_node() -> None:
    nodes = {node["metadata"]["name"]: node for node in fleet.nodes()}  # type: ignore[index]

    assert set(nodes) == {*(f"{name}-{letter}" for name in CARDS for letter in "ab"), "mixed"}
    mixed = nodes["mixed"]
    assert mixed["metadata"]["labels"]["nvidia.com/gpu.count"] == "1"  # type: ignore[index]
    assert mixed["status"]["capacity"]["nvidia.com/gpu"] == "2"  # type: ignore[index]


def test_two_cards_of_one_name_differ_by_memory() -> None:
    small, large = (labels(CARDS[name], 1) for name in ("rtx5060ti-8gb", "rtx5060ti-16gb"))

    assert {name for name in small if small[name] != large[name]} == {"nvidia.com/gpu.memory"}
