"""What one control process works with, made once and handed to its routes and background work."""

import asyncio
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from common.openai_errors import unavailable
from common.registry import Registry
from common.storage import StorageUnavailable, Store, open_store
from services.control.kubernetes.api import Cluster
from services.control.kubernetes.manifest import Templates
from services.control.kubernetes.placement import Placement
from services.control.kubernetes.records import Records
from services.control.kubernetes.runner import Chart, KubernetesRunner
from services.control.local_runner import LocalRunner
from services.control.runner import Runner
from services.control.settings import ROOT, ControlSettings
from services.database.engine import Database


@dataclass(frozen=True)
class Control:
    """Settings and clients. ``runner`` and ``registry`` are None where the installation has none.

    ``making`` is held while a fine-tune is made that must be made once; control has one replica.
    ``erased`` names the copies of erased words that this process has deleted.
    """

    settings: ControlSettings
    database: Database
    runner: Runner | None
    registry: Registry | None
    making: asyncio.Lock = field(default_factory=asyncio.Lock)
    erased: set[str] = field(default_factory=set)

    def store(self) -> Store:
        """The object store; blocks, so call it in a thread.

        Raises:
            OpenAIError: 503, it is away.
        """
        try:
            return open_store(self.settings.store_url)
        except StorageUnavailable as error:
            raise unavailable(str(error)) from None


def make_control(settings: ControlSettings, runner: Runner | None = None) -> Control:
    """Everything that ``settings`` names, or another ``runner`` than they do; nothing connects yet."""
    if runner is None and settings.runner == "local":
        runner = make_local_runner(settings)
    if runner is None and settings.runner == "kubernetes":
        runner = make_kubernetes_runner(settings)
    return Control(settings, Database(settings.database_url), runner, _registry(settings))


def make_local_runner(settings: ControlSettings, root: Path = ROOT) -> LocalRunner:
    """The runner of this machine; its jobs see where everything is, and no secret but their own."""
    environment = {
        "STORE_URL": _absolute(settings.store_url),
        "MLFLOW_TRACKING_URI": settings.mlflow_tracking_uri,
        "MODEL_CACHE_DIR": str(settings.model_cache_dir.expanduser().resolve()),
        "VLLM_BASE_URL": settings.vllm_base_url,
        "CONTROL_URL": settings.own_url,
        "CONTROL_TOKEN": settings.control_token.get_secret_value(),
    }
    return LocalRunner(settings.jobs_dir.resolve(), environment, root)


def make_kubernetes_runner(settings: ControlSettings) -> KubernetesRunner:
    """The runner on the cluster that this process runs in, or that KUBECONFIG names."""
    cluster = Cluster(settings.namespace, settings.owner_configmap)
    cards = Placement(cluster, settings.gpu_discover_nodes, settings.gpu_classes, settings.model_cache_dir)
    chart = Chart(Templates(settings.job_templates), settings.base_models, cards)
    return KubernetesRunner(cluster, Records(partial(open_store, settings.store_url)), chart)


def _registry(settings: ControlSettings) -> Registry | None:
    if not settings.mlflow_tracking_uri:
        return None
    return Registry(settings.mlflow_tracking_uri)


def _absolute(url: str) -> str:
    # A job runs in the repository's root, which need not be this process's folder.
    return url if "://" in url else str(Path(url).expanduser().resolve())
