"""What control reads from its environment."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, model_validator

from common.models import default_cache_dir
from common.settings import Settings
from services.control.bases import Base

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_SECRET = "change-me"  # noqa: S105 - refused outside DEBUG


class ControlSettings(Settings):
    """Control's settings; the names in capitals are the environment's."""

    debug: bool = False
    fastapi_host: str = "127.0.0.1"
    fastapi_port: int = 8080
    database_url: str = "sqlite+aiosqlite:///./onggi.db"
    enable_auth: bool = True
    api_key: SecretStr = SecretStr("")
    admin_username: str = "admin"
    admin_password: SecretStr = SecretStr(DEFAULT_SECRET)
    jwt_secret_key: SecretStr = SecretStr(DEFAULT_SECRET)
    control_token: SecretStr = SecretStr(DEFAULT_SECRET)
    model_cache_dir: Path = Field(default_factory=default_cache_dir)
    store_url: str = "./.onggi/store"
    mlflow_tracking_uri: str = ""
    vllm_base_url: str = "http://127.0.0.1:8000/v1"
    control_url: str = ""
    runner: Literal["local", "kubernetes", "none"] = "local"
    jobs_dir: Path = Path(".onggi/jobs")
    """Where rows are gathered and, with the local runner, where jobs lie."""
    namespace: str = "default"
    job_templates: Path = Path("/etc/onggi/jobs")
    """The chart's Job templates: finetune.yaml and evaluate.yaml."""
    owner_configmap: str = ""
    """The ConfigMap that Jobs belong to, so that they go with the release."""
    base_models: tuple[Base, ...] = ()
    """What is served, where control has no models on its disk: JSON, a list of name, source and revision."""
    gpu_discover_nodes: bool = False
    gpu_classes: tuple[dict[str, Any], ...] = ()
    """The cards that nodes' labels do not tell of: JSON, as the chart's gpu.classes."""
    retrain_minimum: int = Field(default=60, ge=1)
    """So many new reviewed corrections make the next retrain due."""
    claim_seconds: float = Field(default=3600, gt=0)
    """How long one jobs.retrain may take: a claim that is older, and became no fine-tune, is given up."""
    regression_set: Path = ROOT / "jobs" / "samples" / "regression.jsonl"
    otel_exporter_otlp_endpoint: str = ""

    @model_validator(mode="after")
    def _refuse_default_secrets(self) -> "ControlSettings":
        secrets = {
            "ADMIN_PASSWORD": self.admin_password,
            "JWT_SECRET_KEY": self.jwt_secret_key,
            "CONTROL_TOKEN": self.control_token,
        }
        default = [name for name, value in secrets.items() if value.get_secret_value() == DEFAULT_SECRET]
        if default and not self.debug:
            raise ValueError(
                f"{' and '.join(default)} {'is' if len(default) == 1 else 'are'} the default: "
                "set your own (openssl rand -hex 32), or DEBUG=true"
            )
        return self

    @property
    def own_url(self) -> str:
        """Where jobs report to: ``CONTROL_URL``, else this process's own port."""
        return self.control_url or f"http://127.0.0.1:{self.fastapi_port}"

    @property
    def jwt_secret(self) -> str:
        """The secret that sessions are signed with."""
        return self.jwt_secret_key.get_secret_value()
