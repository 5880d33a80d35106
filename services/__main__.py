"""Gateway and control in one process on one port: ``python -m services``."""

from common import logging
from common.errors import run
from common.serving import serve
from common.settings import load
from services.app import create_app
from services.control.settings import ControlSettings
from services.gateway.settings import GatewaySettings

# One machine: whoever stops it waits in front of it.
DRAIN_SECONDS = 10


def main() -> None:
    """Serve until stopped."""
    gateway = load(GatewaySettings)
    logging.configure("services", debug=gateway.debug, log_dir=gateway.log_dir)
    app = create_app(gateway, load(ControlSettings))
    serve(
        app,
        host=gateway.fastapi_host,
        port=gateway.fastapi_port,
        drain_seconds=DRAIN_SECONDS,
        on_leave=app.leave,
    )


if __name__ == "__main__":
    run(main)
