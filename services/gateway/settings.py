"""What the gateway reads from its environment."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from common.settings import Settings

DEFAULT_SECRET = "change-me"  # noqa: S105 - refused outside DEBUG


def _with_path(url: str) -> str:
    """The address that ``/chat/completions`` is added to: ``/v1`` is its path when it names none."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(
            f"{url!r} is no address of an OpenAI-compatible server, such as http://127.0.0.1:8000/v1"
        )
    return url.rstrip("/") if parts.path.strip("/") else f"{url.rstrip('/')}/v1"


class GatewaySettings(Settings):
    """The gateway's settings; the names in capitals are the environment's."""

    debug: bool = False
    fastapi_host: str = "127.0.0.1"
    fastapi_port: int = 8080
    vllm_base_url: Annotated[str, AfterValidator(_with_path)] = "http://127.0.0.1:8000/v1"
    upstream_api_key: SecretStr = SecretStr("")
    default_model: str | None = None
    database_url: str = "sqlite+aiosqlite:///./onggi.db"
    enable_auth: bool = True
    jwt_secret_key: SecretStr = SecretStr(DEFAULT_SECRET)
    default_temperature: float = Field(default=0.7, ge=0, le=2)
    default_max_tokens: int = Field(default=512, ge=1)
    otel_exporter_otlp_endpoint: str = ""
    retry_after_seconds: int = Field(default=5, ge=1)
    """What callers are told while no model server answers and nobody knows when one will."""
    leave_seconds: float = Field(default=5, ge=0)
    """How long requests are still taken after SIGTERM, for balancers to hear of it."""
    drain_seconds: int = Field(default=60, ge=3)
    """How long streams may go on after that; Kubernetes' grace period is longer than both together."""

    @model_validator(mode="after")
    def _refuse_default_secret(self) -> "GatewaySettings":
        if self.enable_auth and not self.debug and self.jwt_secret_key.get_secret_value() == DEFAULT_SECRET:
            raise ValueError(
                "JWT_SECRET_KEY is the default one: set your own (openssl rand -hex 32), or DEBUG=true"
            )
        return self
