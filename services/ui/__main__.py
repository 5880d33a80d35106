"""Run the web UI.

GATEWAY_URL=http://127.0.0.1:8080 CONTROL_URL=http://127.0.0.1:8080 python -m services.ui
"""

import os

import uvicorn

from common import errors, logging
from common.settings import load
from services.ui.settings import UiSettings


def main() -> None:
    """Read the settings and serve until told to stop."""
    settings = load(UiSettings)
    logging.configure("ui", debug=settings.debug, log_dir=settings.log_dir)
    # Gradio reads this when it is imported, and would ask its makers for a newer version.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    from services.ui.app import create_app

    uvicorn.run(
        create_app(settings),
        host=settings.ui_host,
        port=settings.ui_port,
        log_config=None,  # through structlog
        access_log=False,  # the api stream has it
        server_header=False,
        timeout_graceful_shutdown=5,
    )


if __name__ == "__main__":
    errors.run(main)
