"""Run the gateway.

python -m services.gateway        settings from the environment: see services/gateway/settings.py
"""

from common import errors, logging
from common.serving import serve
from common.settings import load
from services.gateway.app import create_app
from services.gateway.settings import GatewaySettings


def main() -> None:
    """Read the settings and serve until told to stop."""
    settings = load(GatewaySettings)
    logging.configure("gateway", debug=settings.debug, log_dir=settings.log_dir)
    app = create_app(settings)
    serve(
        app,
        host=settings.fastapi_host,
        port=settings.fastapi_port,
        drain_seconds=settings.drain_seconds,
        leave_seconds=settings.leave_seconds,
        on_leave=app.state.traffic.leave,
        untold=lambda: app.state.traffic.untold,
    )


if __name__ == "__main__":
    errors.run(main)
