"""Which card a fine-tune gets: the planner's figures against the cluster's nodes and the chart's classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common import gpu_classes, vram
from common.finetune_config import FinetuneConfig
from services.control.kubernetes.api import Cluster
from services.control.runner import JobSpec


@dataclass(frozen=True)
class Placement:
    """The cards of this installation: those of its nodes, where control may read them, and the chart's."""

    cluster: Cluster
    discover: bool
    given: Sequence[Mapping[str, Any]] = ()
    model_cache_dir: Path = field(default=Path("."))

    def affinity(self, spec: JobSpec) -> dict[str, Any]:
        """Where the first step's pods may run, as a pod's ``nodeAffinity``.

        Raises:
            TooBigError: no card is big enough; the sentence says what would fit.
            UserError: there is no card at all, or none of the class that was asked for.
        """
        config = FinetuneConfig(**spec.config | {"bot": None}, data="", output=Path())
        plan = vram.requirement(config, vram.shape_of(spec.base, self.model_cache_dir))
        fleet = self._fleet()
        chosen = gpu_classes.choose(plan, fleet, spec.node_class)
        return gpu_classes.node_affinity(chosen, plan, fleet)

    def _fleet(self) -> gpu_classes.Fleet:
        given = gpu_classes.from_values(list(self.given))
        if not self.discover:
            return given
        return gpu_classes.merged(gpu_classes.from_nodes(self.cluster.nodes()), given)
