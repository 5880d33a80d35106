"""The one OpenAPI document for gateway and control: ``python -m services.openapi`` writes it anew.

The gateway serves it at ``/openapi.json``, and in a cluster it does not hold control's code: so the document
is a file beside it, and a test fails when it differs from what the two applications say.
"""

import json
from typing import Any

from fastapi import FastAPI
from pydantic import SecretStr

from services.control.app import create_app as create_control
from services.control.settings import ControlSettings
from services.gateway.app import DOCUMENT
from services.gateway.app import create_app as create_gateway
from services.gateway.settings import GatewaySettings

UNUSED = SecretStr("no request is served")


def document() -> dict[str, Any]:
    """Both applications' paths and shapes in one document."""
    # The class's own method: the gateway's instance answers with the committed document.
    gateway = FastAPI.openapi(create_gateway(GatewaySettings(jwt_secret_key=UNUSED)))
    control = create_control(
        ControlSettings(jwt_secret_key=UNUSED, admin_password=UNUSED, control_token=UNUSED, runner="none")
    ).openapi()
    shapes = gateway["components"]["schemas"]
    clashing = [
        name for name, shape in control["components"]["schemas"].items() if shapes.get(name, shape) != shape
    ]
    if clashing:
        raise ValueError(f"gateway and control use these names for different shapes: {', '.join(clashing)}")
    return {
        **gateway,
        "info": {"title": "Onggi", "version": "v1"},
        "paths": {**control["paths"], **gateway["paths"]},
        "components": {"schemas": {**control["components"]["schemas"], **shapes}},
    }


def text() -> str:
    """The document as it is committed."""
    return json.dumps(document(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(text(), encoding="utf-8")
