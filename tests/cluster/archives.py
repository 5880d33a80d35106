"""Images of a few files each, written without Docker or buildah as archives that every runtime loads.

The format is Docker's: a tar with ``manifest.json``, a configuration and one uncompressed layer
(https://github.com/moby/docker-image-spec, v1.2).
"""

import hashlib
import io
import json
import platform
import tarfile
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.place import cluster_cache

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


@dataclass(frozen=True)
class Image:
    """What a container runs: files by their path in the image, the first of which is the program."""

    name: str
    files: dict[str, Path]
    links: tuple[str, ...] = ()  # further names of the program

    def reference(self) -> str:
        """A name of its content, so that a changed program is another image."""
        content = hashlib.sha256(repr(self.links).encode())
        for target, source in sorted(self.files.items()):
            content.update(f"{target} {_identity(source)}\n".encode())
        return f"localhost/onggi-cluster/{self.name}:{content.hexdigest()[:12]}"

    def archive(self) -> Path:
        """Write the archive unless the cache has it."""
        path = cluster_cache() / "archives" / f"{self.name}-{self.reference().rpartition(':')[2]}.tar"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".part")
            _write(self, partial)
            partial.rename(path)
        return path


def _identity(source: Path) -> str:
    """What tells a file from another: below the cache its folder does, elsewhere only its content."""
    if source.is_relative_to(cluster_cache()):
        found = source.stat()
        return f"{source} {found.st_size} {found.st_mtime_ns}"
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(image: Image, path: Path) -> None:
    layer = path.with_suffix(".layer")
    _write_layer(image, layer)
    with layer.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    config = {
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"Entrypoint": [f"/{next(iter(image.files))}"], "Env": ["PATH=/bin"], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [image.reference()], "Layers": ["layer.tar"]}]
    with tarfile.open(path, "w") as archive:
        _add(archive, "config.json", json.dumps(config).encode())
        _add(archive, "manifest.json", json.dumps(manifest).encode())
        archive.add(layer, "layer.tar")
    layer.unlink()


def _write_layer(image: Image, path: Path) -> None:
    files = dict(image.files)
    if CERTIFICATES.exists():
        files["etc/ssl/certs/ca-certificates.crt"] = CERTIFICATES
    with tarfile.open(path, "w", dereference=True) as layer:
        for folder in sorted({str(parent) for name in files for parent in Path(name).parents} | {"tmp"}):
            if folder != ".":
                _add_folder(layer, folder, 0o1777 if folder == "tmp" else 0o755)
        for name, source in files.items():
            layer.add(source, name, filter=_owned_by_root)
        program = next(iter(files))
        for link in image.links:
            _add_link(layer, link, f"/{program}")


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def _add_folder(archive: tarfile.TarFile, name: str, mode: int) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.mode = tarfile.DIRTYPE, mode
    archive.addfile(member)


def _add_link(archive: tarfile.TarFile, name: str, target: str) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    archive.addfile(member)
