"""The bridge that pods hang on. Its own address is the node's; nothing listens on the machine's network."""

import json
from pathlib import Path

from tests.cluster.commands import run, succeeds
from tests.cluster.place import BRIDGE, NODE_ADDRESS, POD_RANGE, SERVICE_RANGE, Place

SETTINGS = {"net/ipv4/ip_forward": "1", "net/bridge/bridge-nf-call-iptables": "1"}


def up(place: Place) -> None:
    """Make the bridge and let the kernel forward; what the kernel was set to is kept for ``down``."""
    kept = place.state / "kernel-settings.json"
    if not kept.exists():
        kept.write_text(json.dumps({name: _setting(name).read_text().strip() for name in SETTINGS}))
    for name, value in SETTINGS.items():
        _setting(name).write_text(value)
    if not succeeds(["ip", "link", "show", BRIDGE]):
        run(["ip", "link", "add", BRIDGE, "type", "bridge"])
    run(["ip", "address", "replace", f"{NODE_ADDRESS}/{POD_RANGE.partition('/')[2]}", "dev", BRIDGE])
    run(["ip", "link", "set", BRIDGE, "up"])
    run(["ip", "route", "replace", SERVICE_RANGE, "dev", BRIDGE, "src", NODE_ADDRESS])


def down(place: Place) -> None:
    """Remove the bridge, its routes with it, and set the kernel as it was."""
    if succeeds(["ip", "link", "show", BRIDGE]):
        run(["ip", "link", "delete", BRIDGE])
    kept = place.state / "kernel-settings.json"
    if kept.exists():
        for name, value in json.loads(kept.read_text()).items():
            _setting(name).write_text(value)
        kept.unlink()


def plugins(place: Place) -> str:
    """The CNI configuration (https://www.cni.dev/docs/spec, 1.0.0)."""
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": str(place.state / "addresses"),
            "ranges": [[{"subnet": POD_RANGE}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return json.dumps({"cniVersion": "1.0.0", "name": "onggi", "plugins": [bridge, ports]}, indent=1)


def resolver() -> Path:
    """The resolv.conf that pods can use: systemd's stub on 127.0.0.53 is not reachable from them."""
    behind = Path("/run/systemd/resolve/resolv.conf")
    return behind if behind.exists() else Path("/etc/resolv.conf")


def _setting(name: str) -> Path:
    return Path("/proc/sys", name)
