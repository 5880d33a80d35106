"""Run the gateway.

python -m services.gateway        settings from the environment: see services/gateway/settings.py
"""

import uvicorn

from common import errors, logging
from common.settings import load
from services.gateway.app import create_app
from services.gateway.settings import GatewaySettings

# How long streams in flight may go on after SIGTERM; Kubernetes' grace period is set longer.
DRAIN_SECONDS = 60


def main() -> None:
    """Read the settings and serve until told to stop."""
    settings = load(GatewaySettings)
    logging.configure("gateway", debug=settings.debug, log_dir=settings.log_dir)
    uvicorn.run(
        create_app(settings),
        host=settings.fastapi_host,
        port=settings.fastapi_port,
        loop="uvloop",
        http="httptools",
        log_config=None,  # through structlog
        access_log=False,  # the api stream has it
        server_header=False,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )


if __name__ == "__main__":
    errors.run(main)
