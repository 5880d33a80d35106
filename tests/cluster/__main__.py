"""Start, change and stop the cluster: ``python -m tests.cluster up|add|remove|gpus|status|env|down``."""

import argparse
import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator

from common.errors import UserError, run
from tests.cluster import fleet, gpus, parts
from tests.cluster.base import Base
from tests.cluster.kind import Kind, docker_runs
from tests.cluster.machine import Machine
from tests.cluster.modules import MODULES, build
from tests.cluster.place import HTTP_PORT, HTTPS_PORT, REGISTRY, Place, place

PREPARE: dict[str, Callable[[Place, Base], None]] = {"gpus": gpus.prepare}
FINISH: dict[str, Callable[[Place, Base], None]] = {"fleet": fleet.up}


def main() -> None:
    """Do what the command line says, one command at a time."""
    arguments = _parser().parse_args()
    where = place()
    with _alone(where) if arguments.changes else contextlib.nullcontext():
        arguments.command(where, arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    commands = parser.add_subparsers(required=True)

    def command(
        name: str, function: Callable[[Place, argparse.Namespace], None], text: str
    ) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(command=function, changes=function not in (_status, _env, _build))
        return made

    listed = f"{', '.join(parts.PARTS)}, or all"
    up = command("up", _up, f"start the cluster with {', '.join(parts.USUAL)} and the parts named here")
    up.add_argument("parts", nargs="*", help=listed)
    command("add", _add, "put parts into the running cluster").add_argument("parts", nargs="+", help=listed)
    command("remove", _remove, "take parts out again").add_argument("parts", nargs="+", help=listed)
    cards = command("gpus", _gpus, "choose the cards that the node offers")
    cards.add_argument("count", type=int)
    cards.add_argument("--card", default=gpus.USUAL[0], choices=gpus.CARDS)
    cards.add_argument("--ill", type=int, default=0, help="how many of them fail")
    command("status", _status, "say what runs")
    command("env", _env, "print what a shell needs: eval $(python -m tests.cluster env)")
    command("build", _build, "build programs into the cache").add_argument(
        "modules", nargs="+", choices=MODULES
    )
    down = command("down", _down, "stop the cluster and remove all of it but its logs")
    down.add_argument("--leftovers", action="store_true", help="also where no record says that it was ours")
    return parser


def _up(where: Place, arguments: argparse.Namespace) -> None:
    base = _base(where)
    wanted = parts.chosen(list(dict.fromkeys([*parts.USUAL, *arguments.parts])), base)
    base.check()
    build(dict.fromkeys(name for part in wanted for name in part.modules))
    base.up()
    print("node: ready", flush=True)
    _put(where, base, wanted)
    print(_told(where))


def _add(where: Place, arguments: argparse.Namespace) -> None:
    base = _running_base(where)
    _put(where, base, parts.chosen(arguments.parts, base))


def _put(where: Place, base: Base, wanted: list[parts.Part]) -> None:
    for part in wanted:
        PREPARE.get(part.name, _nothing)(where, base)
    parts.add(where, base, wanted)
    for part in wanted:
        FINISH.get(part.name, _nothing)(where, base)


def _remove(where: Place, arguments: argparse.Namespace) -> None:
    wanted = parts.chosen(arguments.parts, _running_base(where))
    if parts.PARTS["fleet"] in wanted:
        fleet.down(where)
    parts.remove(where, wanted)


def _gpus(where: Place, arguments: argparse.Namespace) -> None:
    gpus.set_cards(where, _running_base(where), arguments.card, arguments.count, arguments.ill)


def _status(where: Place, arguments: argparse.Namespace) -> None:
    if not where.base.exists():
        print("there is no cluster: `make cluster` starts one")
        return
    for name, alive in _base(where).running().items():
        print(f"{name}: {'runs' if alive else 'ended, see ' + str(where.logs / name) + '.log'}")
    print(_told(where))


def _env(where: Place, arguments: argparse.Namespace) -> None:
    print(f'export KUBECONFIG={where.kubeconfig} PATH={where.bin}:"$PATH"')


def _build(where: Place, arguments: argparse.Namespace) -> None:
    build(arguments.modules)
    for module in arguments.modules:
        print(MODULES[module].folder())


def _down(where: Place, arguments: argparse.Namespace) -> None:
    if not where.base.exists() and not arguments.leftovers:
        print("there is no cluster")
        return
    _base(where).down()
    print(f"the cluster is gone; its logs are in {where.logs}")


def _base(where: Place) -> Base:
    """What the cluster is made of, or would be."""
    bases: dict[str, Callable[[Place], Base]] = {"kind": Kind, "machine": Machine}
    made_of = where.base.read_text() if where.base.exists() else ("kind" if docker_runs() else "machine")
    return bases[made_of](where)


def _running_base(where: Place) -> Base:
    if not where.base.exists():
        raise UserError("there is no cluster: `make cluster` starts one")
    return _base(where)


def _told(where: Place) -> str:
    return (
        f"cluster: export KUBECONFIG={where.kubeconfig} PATH={where.bin}:$PATH\n"
        f"registry: {REGISTRY}; ingress: http://127.0.0.1:{HTTP_PORT} https://127.0.0.1:{HTTPS_PORT}\n"
        f"logs: {where.logs}; stop it: make cluster-down"
    )


def _nothing(where: Place, base: Base) -> None:
    """Most parts need nothing around their manifests."""


@contextlib.contextmanager
def _alone(where: Place) -> Iterator[None]:
    """Two commands at once act one after the other; the lock outlives the state that it guards."""
    where.state.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(where.state.with_name(where.state.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    run(main)
