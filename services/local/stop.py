"""Stop a local installation: ``python -m services.local.stop [--front] [--clean]``."""

import argparse
import shutil

from services.local import state
from services.local.processes import Processes


def main() -> None:
    """Stop what was started; with ``--clean`` remove its state too, never an environment or a model."""
    parser = argparse.ArgumentParser(prog="python -m services.local.stop", description=__doc__)
    parser.add_argument("--front", action="store_true", help="the installation of `make front`")
    parser.add_argument("--clean", action="store_true", help="remove its database, files and logs")
    arguments = parser.parse_args()
    folder = state.folder("front" if arguments.front else "demo")
    stopped = Processes(folder).stop()
    print(f"stopped {', '.join(stopped)}" if stopped else "nothing was running")
    if arguments.clean and folder.exists():
        shutil.rmtree(folder)
        print(f"removed {folder}")


if __name__ == "__main__":
    main()
