"""Gateway and control in one process on one port: ``python -m services``."""

import uvicorn

from common import logging
from common.errors import run
from common.settings import load
from services.app import create_app
from services.control.settings import ControlSettings
from services.gateway.settings import GatewaySettings


def main() -> None:
    """Serve until stopped."""
    gateway = load(GatewaySettings)
    logging.configure("services", debug=gateway.debug, log_dir=gateway.log_dir)
    uvicorn.run(
        create_app(gateway, load(ControlSettings)),
        host=gateway.fastapi_host,
        port=gateway.fastapi_port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=10,
    )


if __name__ == "__main__":
    run(main)
