"""Run the web UI.

GATEWAY_URL=http://127.0.0.1:8080 CONTROL_URL=http://127.0.0.1:8080 python -m services.ui
"""

import os

from prometheus_client import start_http_server

from common import errors, logging
from common.serving import serve
from common.settings import load
from services.ui.settings import UiSettings


def main() -> None:
    """Read the settings and serve until told to stop."""
    settings = load(UiSettings)
    logging.configure("ui", debug=settings.debug, log_dir=settings.log_dir)
    # Gradio reads this when it is imported, and would ask its makers for a newer version.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    from services.ui.app import create_app

    if settings.metrics_port:
        start_http_server(settings.metrics_port, settings.ui_host)
    serve(create_app(settings), host=settings.ui_host, port=settings.ui_port, drain_seconds=5)


if __name__ == "__main__":
    errors.run(main)
