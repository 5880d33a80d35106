"""The version to judge: what its manifest and MLflow say of it, its files, its base."""

from dataclasses import dataclass
from pathlib import Path

from common.adapters import AdapterManifest, read_manifest, verify
from common.errors import AwayError, UserError
from common.models import BaseModel, resolve
from common.names import VersionName
from common.registry import RegisteredVersion, Registry
from common.storage import MANIFEST, StorageUnavailable, Store, fetch, open_store
from jobs.evaluate.config import EvaluateConfig


@dataclass(frozen=True)
class Version:
    """A version with its base on this disk; ``registered`` is None where no MLflow is configured."""

    name: VersionName
    manifest: AdapterManifest
    base: BaseModel
    registered: RegisteredVersion | None


def find_version(config: EvaluateConfig, store: Store) -> Version:
    """Read what is known of ``config.version``.

    Raises:
        UserError: there is no such version, it is damaged, or its base is not the one on this disk.
        AwayError: MLflow or the store does not answer.
    """
    name = config.name
    registered = Registry(config.mlflow_tracking_uri).get(name) if config.mlflow_tracking_uri else None
    if config.mlflow_tracking_uri and registered is None:
        raise UserError(f"{name} is not in MLflow at {config.mlflow_tracking_uri}: register it first")
    manifest = read_files(name, store)
    if registered and registered.tags.sha256 != manifest.sha256:
        raise UserError(f"{name}: MLflow and the store hold different adapters: register it again")
    base = resolve(config.base or manifest.base, config.model_cache_dir)
    if base.name != manifest.base:
        raise UserError(f"{name} was trained on {manifest.base}, and {base.path} is {base.name}")
    if base.revision != manifest.revision:
        raise UserError(
            f"{name} was trained on {base.name} at revision {manifest.revision}, "
            f"and {base.path} is {base.revision}: fetch that revision, or retrain it on this one"
        )
    return Version(name, manifest, base, registered)


def open_the_store(url: str) -> Store:
    """The store at ``url``.

    Raises:
        AwayError: it cannot be opened.
    """
    try:
        return open_store(url)
    except StorageUnavailable as error:
        raise AwayError(f"{error}: check STORE_URL") from None


def fetch_adapter(version: Version, store: Store, folder: Path) -> Path:
    """The version's files, checked, in ``folder``, which is made.

    Raises:
        AdapterError: they are not what was registered.
        AwayError: the store does not answer.
    """
    try:
        store.get_folder(version.name.folder, folder)
    except StorageUnavailable as error:
        raise AwayError(f"{version.name} cannot be fetched: {error}") from None
    verify(folder, version.manifest)
    return folder


def fetch_rows(address: str, folder: Path) -> Path:
    """The file at ``address``: a path as it is, an address in a store by way of ``folder``.

    Raises:
        UserError: nothing lies there.
        AwayError: the store does not answer.
    """
    if "://" not in address:
        return Path(address)
    local = folder / address.rpartition("/")[2]
    try:
        fetch(address, local)
    except FileNotFoundError:
        raise UserError(f"{address} is not there: check the address") from None
    except StorageUnavailable as error:
        raise AwayError(f"{address} cannot be fetched: {error}") from None
    return local


def read_files(name: VersionName, store: Store) -> AdapterManifest:
    """What the store says of version ``name``.

    Raises:
        UserError: it has no files there, or they are damaged.
        AwayError: the store does not answer.
    """
    try:
        return read_manifest(store.get_bytes(f"{name.folder}/{MANIFEST}"), name)
    except FileNotFoundError:
        raise UserError(f"{name} has no files in the store {store.url}: register it first") from None
    except StorageUnavailable as error:
        raise AwayError(f"{name} cannot be fetched: {error}") from None
