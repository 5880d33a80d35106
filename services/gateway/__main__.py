"""Run the gateway.

python -m services.gateway        settings from the environment: see services/gateway/settings.py
"""

from common import errors, logging
from common.serving import serve
from common.settings import load
from services.gateway.app import create_app
from services.gateway.settings import GatewaySettings

# How long streams in flight may go on after SIGTERM; Kubernetes' grace period is set longer.
DRAIN_SECONDS = 60


def main() -> None:
    """Read the settings and serve until told to stop."""
    settings = load(GatewaySettings)
    logging.configure("gateway", debug=settings.debug, log_dir=settings.log_dir)
    serve(
        create_app(settings),
        host=settings.fastapi_host,
        port=settings.fastapi_port,
        drain_seconds=DRAIN_SECONDS,
    )


if __name__ == "__main__":
    errors.run(main)
