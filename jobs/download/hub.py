"""A model from the Hugging Face hub: what serving and training read, at one commit, resumed and checked."""

import functools
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from common.errors import AwayError, UserError
from common.models import file_sha256

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

WANTED = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "*.model", "*.txt", "LICENSE*")
# Meta's second copy of the weights, other frameworks' exports, and adapters that lie beside a base.
UNWANTED = ("original/*", "onnx/*", "openvino/*", "consolidated*", "adapter_*", "runs/*")
SPARE = 1 << 30
STREAMS = 4
COMMIT = ".commit"


class HubUnreachable(AwayError):
    """The hub does not answer; a packaged model may still be had."""


def fetch(folder: Path, repository: str, *, revision: str | None, token: str | None) -> str:
    """Put the model ``repository`` ("org/name") into ``folder``, going on from what is there; its commit.

    Raises:
        HubUnreachable: nothing answers at the hub's address.
        UserError: the model is gated, not there, without safetensors or larger than the disk.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import HfApi

    with _explained(repository, revision):
        info = HfApi(token=token or False).model_info(
            repository, revision=revision, files_metadata=True, timeout=10
        )
        commit = str(info.sha)
        _keep_only(folder, commit)
        wanted = _wanted(info, repository)
        _check_disk(folder, wanted, repository)
        with ThreadPoolExecutor(STREAMS) as pool:
            get = functools.partial(_get, folder, repository, commit, token)
            list(pool.map(get, wanted, wanted.values()))
    _check_digests(folder, info, wanted)
    (folder / COMMIT).unlink()
    return commit


def _keep_only(folder: Path, commit: str) -> None:
    """What an interrupted download left is of use only at the same commit."""
    mark = folder / COMMIT
    if not mark.is_file() or mark.read_text() != commit:
        shutil.rmtree(folder)
        folder.mkdir()
        mark.write_text(commit)


def _get(folder: Path, repository: str, commit: str, token: str | None, name: str, size: int) -> None:
    """One file, from the byte where the last attempt ended (the library's own download starts again)."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils._headers import build_hf_headers

    target = folder / name
    if target.is_file():
        return
    part = target.with_name(f".part-{target.name}")
    part.parent.mkdir(parents=True, exist_ok=True)
    with part.open("ab") as file:
        url = hf_hub_url(repository, name, revision=commit)
        headers = build_hf_headers(token=token or False)
        http_get(url, file, resume_size=file.tell(), headers=headers, expected_size=size)
    part.replace(target)


def _wanted(info: "ModelInfo", repository: str) -> dict[str, int]:
    """The names and sizes of the files that are fetched."""
    from huggingface_hub.utils._paths import filter_repo_objects

    sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
    wanted = {
        name: sizes[name]
        for name in filter_repo_objects(sizes, allow_patterns=list(WANTED), ignore_patterns=list(UNWANTED))
    }
    if not any(name.endswith(".safetensors") for name in wanted):
        raise UserError(
            f"{repository} has no safetensors weights, and pickled ones are not read: choose a model that has"
        )
    return wanted


def _check_disk(folder: Path, wanted: dict[str, int], repository: str) -> None:
    there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    needed, free = sum(wanted.values()) - there + SPARE, shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{repository} needs {needed >> 20} MiB more in {folder.parent}, which has {free >> 20} MiB "
            "free: free some, or set MODEL_CACHE_DIR"
        )


def _check_digests(folder: Path, info: "ModelInfo", wanted: dict[str, int]) -> None:
    """Large files carry their sha256 on the hub; one that differs is removed, to be fetched again."""
    expected = {file.rfilename: file.lfs.sha256 for file in info.siblings or [] if file.lfs}
    for name in wanted:
        if name in expected and file_sha256(folder / name) != expected[name]:
            (folder / name).unlink()
            raise UserError(f"{name} of {info.id} came damaged and was removed: run the same command again")


@contextmanager
def _explained(repository: str, revision: str | None) -> Iterator[None]:
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{repository}"
    try:
        yield
    except errors.GatedRepoError:
        raise UserError(
            f"{repository} is gated: accept its terms at {page} with your account, then set "
            f"HUGGINGFACE_TOKEN to a token of that account ({constants.ENDPOINT}/settings/tokens)"
        ) from None
    except errors.RevisionNotFoundError:
        raise UserError(f"{repository} has no revision {revision}: see {page}/commits") from None
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        raise UserError(
            f"the hub has no model {repository} for us: check its spelling at {page}; "
            "a private one needs HUGGINGFACE_TOKEN"
        ) from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status == 401:
            raise UserError(
                "the hub does not know this HUGGINGFACE_TOKEN: make a new one, or unset it"
            ) from None
        raise HubUnreachable(f"the hub refused {repository} with {status}: try again later") from None
    # The base of what the library's own HTTP library (httpx or httpx2) raises.
    except (errors.HTTPError, OSError) as error:  # type: ignore[attr-defined]
        raise HubUnreachable(
            f"the hub does not answer at {constants.ENDPOINT} ({error}): check network and disk, and run the "
            "same command again; it goes on where it stopped"
        ) from None
