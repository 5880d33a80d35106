"""Run the platform on this machine: ``python -m services.local demo | front | loop``."""

import argparse

from common.errors import run
from services.local import demo, front, loop


def main() -> None:
    """Choose the installation."""
    parser = argparse.ArgumentParser(prog="python -m services.local", description=__doc__)
    parser.add_argument("profile", choices=["demo", "front", "loop"])
    {"demo": demo.main, "front": front.main, "loop": loop.main}[parser.parse_args().profile]()


if __name__ == "__main__":
    run(main)
