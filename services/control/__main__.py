"""Run control.

python -m services.control        settings from the environment: see services/control/settings.py
"""

from common import errors, logging
from common.serving import serve
from common.settings import load
from services.control.app import create_app
from services.control.settings import ControlSettings

# How long uploads in flight may go on after SIGTERM.
DRAIN_SECONDS = 30


def main() -> None:
    """Read the settings and serve until told to stop."""
    settings = load(ControlSettings)
    logging.configure("control", debug=settings.debug, log_dir=settings.log_dir)
    serve(
        create_app(settings),
        host=settings.fastapi_host,
        port=settings.fastapi_port,
        drain_seconds=DRAIN_SECONDS,
    )


if __name__ == "__main__":
    errors.run(main)
