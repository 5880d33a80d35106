"""Settings of the web UI."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from common.settings import Settings


def _address(url: str) -> str:
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise ValueError(f"{url!r} is no address, such as http://127.0.0.1:8080")
    return url.rstrip("/")


Address = Annotated[str, AfterValidator(_address)]


class UiSettings(Settings):
    """The UI knows two addresses and no secret: each person's browser keeps that person's credential."""

    debug: bool = False
    ui_host: str = "127.0.0.1"
    ui_port: int = Field(default=7860, ge=1, le=65535)
    metrics_port: int | None = Field(default=None, ge=1, le=65535)
    """A port for /metrics alone, where an Ingress routes every path of the other one; else they share it."""
    gateway_url: Address = "http://127.0.0.1:8080"
    control_url: Address = "http://127.0.0.1:8080"
