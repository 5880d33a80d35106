"""Run the platform on this machine: ``python -m services.local demo | front``."""

import argparse

from common.errors import run
from services.local import demo, front


def main() -> None:
    """Choose the installation."""
    parser = argparse.ArgumentParser(prog="python -m services.local", description=__doc__)
    parser.add_argument("profile", choices=["demo", "front"])
    {"demo": demo.main, "front": front.main}[parser.parse_args().profile]()


if __name__ == "__main__":
    run(main)
