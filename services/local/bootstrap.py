"""Make the environments that a command needs, then run it in the first of them.

    python3 -m services.local.bootstrap demo vllm-cpu -- python -m services.local demo

Runs on the system's own Python with the standard library alone. An environment is the frozen list
``requirements/<name>.txt`` installed with ``--no-deps``; it lives under ``${ONGGI_CACHE:-~/.cache/onggi}`` in
a folder named by the list's content, so a fresh clone finds it again and a changed list never meets an old
one. uv fills it by hard links in seconds; where uv cannot be had, plain pip does the same more slowly.
"""

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[2]
OLDEST_PYTHON = (3, 11)
GIGABYTE = 1 << 30
PACKAGES_ONLY = {"cluster"}  # names in apt.txt that have no environment of their own
DISK_NEEDED = {"front": 2, "demo": 9, "test": 9, "vllm-cpu": 9}  # GiB, caches included, measured


class Missing(Exception):
    """Something that the machine lacks: one sentence with the way out."""


def main(arguments: list[str]) -> NoReturn:
    """Prepare the environments named before ``--`` and become the command behind it."""
    split = arguments.index("--")
    names, command = arguments[:split], arguments[split + 1 :]
    try:
        check_machine()
        check_packages(names)
        interpreters = {name: environment(name) for name in names if name not in PACKAGES_ONLY}
    except Missing as missing:
        print(f"error: {missing}", file=sys.stderr)
        sys.exit(2)
    first = interpreters[names[0]].parent
    os.environ["PATH"] = f"{first}{os.pathsep}{os.environ['PATH']}"
    os.environ["VIRTUAL_ENV"] = str(first.parent)
    # Without bytecode every one of a demo's processes would compile thousands of modules at every start.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    for name, interpreter in interpreters.items():
        os.environ[f"ONGGI_PYTHON_{name.upper().replace('-', '_')}"] = str(interpreter)
    os.execvp(command[0], command)  # noqa: S606 - becoming the command is the point


def cache() -> Path:
    """The one folder where caches live; deleting it changes nothing but time."""
    return Path(os.environ.get("ONGGI_CACHE") or Path.home() / ".cache" / "onggi")


def check_machine() -> None:
    """Refuse what cannot work before anything is made."""
    if sys.version_info < OLDEST_PYTHON:
        raise Missing(
            f"Python 3.11 or newer is needed, this is {platform.python_version()}: set PYTHON=python3.11"
        )
    if sys.platform != "linux":
        raise Missing(
            'vLLM for CPU runs on Linux: run `docker run --rm -it -v "$PWD":/onggi -w /onggi --network host '
            "python:3.11 make demo`, or use a Linux machine"
        )


def check_packages(names: list[str]) -> None:
    """Install the system packages that are missing (as root), or print the one command that does.

    apt.txt has one package a line, behind it the environments that need it.
    """
    rows = [line.split("#")[0].split() for line in (ROOT / "apt.txt").read_text().splitlines()]
    wanted = [row[0] for row in rows if row and set(row[1:]) & {"all", *names}]
    if not shutil.which("dpkg-query"):
        return  # not Debian or Ubuntu: the imports will say what is missing
    missing = [package for package in wanted if not _installed(package)]
    if not missing:
        return
    install = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    if os.geteuid() != 0:
        raise Missing(f"system packages are missing: sudo {' '.join(install)}")
    print(f"installing {' '.join(missing)}", flush=True)
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for step in (["apt-get", "update", "-qq"], [*install, "-qq"]):
        if subprocess.run(step, env=environ, stdout=subprocess.DEVNULL, check=False).returncode:
            raise Missing(f"`{' '.join(step)}` failed: check the network and run it by hand")


def _installed(package: str) -> bool:
    query = ["dpkg-query", "-W", "-f=${db:Status-Status}", package]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout == "installed"


def environment(name: str) -> Path:
    """Make environment ``name`` unless it is there; its Python."""
    listed = ROOT / "requirements" / f"{name}.txt"
    folder = environment_folder(name, listed)
    with _locked(folder.with_suffix(".lock")):
        if not (folder / ".complete").exists():
            _make(folder, name, listed)
    return folder / "bin" / "python"


def environment_folder(name: str, listed: Path) -> Path:
    """Where the environment of list ``listed`` lies: another list, Python or machine is another folder."""
    content = hashlib.sha256(listed.read_bytes() + sys.version.encode() + platform.machine().encode())
    return cache() / "env" / f"{name}-{content.hexdigest()[:12]}"


def _make(folder: Path, name: str, listed: Path) -> None:
    _check_disk(name)
    started = time.monotonic()
    print(f"environment {name}: installing", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    if subprocess.run([sys.executable, "-m", "venv", str(folder)], check=False).returncode:
        raise Missing("this Python cannot make environments: sudo apt-get install python3-venv")
    python = folder / "bin" / "python"
    if subprocess.run(_installer(name, python, listed), env=_install_settings(), check=False).returncode:
        raise Missing(
            f"environment {name} could not be installed from {listed.relative_to(ROOT)}: "
            "check the network and run the same command again"
        )
    (folder / ".complete").touch()
    print(f"environment {name}: ready after {time.monotonic() - started:.0f} s", flush=True)


def _installer(name: str, python: Path, listed: Path) -> list[str]:
    uv = None if name == "uv" else _uv()
    if uv:
        return [uv, "pip", "install", "--quiet", "--no-deps", "--python", str(python), "-r", str(listed)]
    return [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(listed)]


def _uv() -> str | None:
    """uv from an environment of its own; None where it has no build for this machine."""
    try:
        return str(environment("uv").with_name("uv"))
    except Missing:
        return None


def _install_settings() -> dict[str, str]:
    """pip's settings hold for uv as well, and both keep their downloads in our cache."""
    settings = {
        **os.environ,
        "UV_CACHE_DIR": str(cache() / "uv"),
        "PIP_CACHE_DIR": str(cache() / "pip"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    if "PIP_INDEX_URL" in os.environ:
        settings.setdefault("UV_DEFAULT_INDEX", os.environ["PIP_INDEX_URL"])
    if "PIP_CERT" in os.environ:
        settings.setdefault("SSL_CERT_FILE", os.environ["PIP_CERT"])
    return settings


def _check_disk(name: str) -> None:
    needed = DISK_NEEDED.get(name, 0)
    cache().mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache()).free / GIGABYTE
    if free < needed:
        raise Missing(
            f"environment {name} needs {needed} GiB of disk, {cache()} has {free:.1f} GiB free: "
            "free some, or set ONGGI_CACHE to a folder on a larger disk"
        )


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Two commands at once make an environment one after the other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    main(sys.argv[1:])
