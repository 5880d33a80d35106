"""The registry: which versions exist, kept by MLflow's model registry (its REST API 2.0, not its client).

A registered model is a bot and a model version is one immutable version of it. A version is made in two
steps: ``create_version`` takes the number and writes the tags, and ``complete`` says where the files lie once
they are in the object store. A version without that address was never finished and is not listed. MLflow
never gives a number twice, so ``support-bot@7`` means one adapter for ever.

MLflow's own client is left out on purpose: importing it costs seconds and 250 MB in every process that only
asks for a list, and its retries keep a command waiting for minutes when MLflow is away. MLflow refuses a
local path as a version's source, so the source names the bot's place in the store and tag ``files`` says the
full address.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from common.errors import AwayError, UserError, is_passing
from common.names import VersionName, check_bot_name, is_bot_name
from common.verdict import Verdict

FILES_TAG = "files"
PAGE = 500
ARTIFACTS, PROXIED = "mlflow-artifacts", "mlflow-artifacts:"


def limit_patience(retries: int, seconds: int) -> None:
    """Let MLflow's own client try each request ``retries`` times again, for ``seconds`` each time.

    Left to itself it takes minutes. What the environment says already stands.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", str(retries))
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(seconds))


class RegistryError(UserError):
    """MLflow did not do what it was asked."""


class RegistryUnavailable(RegistryError, AwayError):
    """It cannot be reached, or has trouble of its own."""


class RegistryRefused(RegistryError):
    """It answered, and would say so again: asking once more does not help."""


@contextmanager
def taking(uri: str, what: str) -> Iterator[None]:
    """A block in which MLflow's own client hands ``what`` to the server at ``uri``.

    Raises:
        RegistryRefused: the server said no.
        RegistryUnavailable: it does not answer, or has trouble of its own.
    """
    from mlflow.exceptions import MlflowException
    from requests import HTTPError

    try:
        yield
    except (MlflowException, HTTPError) as error:  # the latter is of artifacts
        if isinstance(error, MlflowException):  # 500 where there was no answer
            status = error.get_http_status_code()
        else:
            status = error.response.status_code if error.response is not None else 500
        raise _trouble(status, f"MLflow at {uri} does not take {what}: {error}") from None


def _trouble(status: int, sentence: str) -> RegistryError:
    return RegistryUnavailable(sentence) if is_passing(status) else RegistryRefused(sentence)


class Provenance(BaseModel):
    """Where an adapter comes from, as far as that is known; for one made elsewhere, hardly at all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str = "lora"
    dataset_digest: str | None = None
    chat_template_hash: str | None = None
    training_precision: str | None = None
    serving_precision: str | None = None
    job_id: str | None = None
    run_id: str | None = None
    figures: dict[str, float] = {}


class VersionTags(Provenance):
    """What is known of a version when it is made; one MLflow tag each, ``figures`` as JSON."""

    model_config = ConfigDict(extra="ignore")

    base: str
    revision: str
    rank: int
    sha256: str
    """Digest over the adapter's files, as in its manifest."""

    def to_mlflow(self) -> list[dict[str, str]]:
        """As the REST API takes them; what is not known is left out."""
        values = self.model_dump(exclude_none=True) | {"figures": json.dumps(self.figures)}
        return [{"key": key, "value": str(value)} for key, value in values.items()]

    @classmethod
    def from_mlflow(cls, tags: dict[str, str]) -> "VersionTags | None":
        """Read them back; None for a version that something else put into this MLflow."""
        try:
            return cls.model_validate(tags | {"figures": json.loads(tags.get("figures", "{}"))})
        except (ValidationError, ValueError):
            return None


@dataclass(frozen=True)
class RegisteredVersion:
    """One version as MLflow knows it; ``files`` is its folder's address, None until it is complete."""

    name: VersionName
    tags: VersionTags
    files: str | None
    created_at: float
    """Seconds since the epoch."""


class Registry:
    """MLflow at ``tracking_uri`` (http or https). Calls block; in an event loop they belong in a thread.

    All methods raise ``RegistryUnavailable`` within seconds when MLflow is away.
    """

    def __init__(self, tracking_uri: str) -> None:
        if not tracking_uri.startswith(("http://", "https://")):
            raise UserError(
                f"MLFLOW_TRACKING_URI = {tracking_uri!r}: the registry is a running MLflow server, "
                "such as http://127.0.0.1:5050"
            )
        self.url = tracking_uri.rstrip("/")

    def ping(self) -> None:
        """Ask MLflow for next to nothing; raises ``RegistryUnavailable`` like every other call."""
        self._call("GET", "model-versions/search", {"max_results": "1"})

    def create_version(self, bot: str, tags: VersionTags) -> VersionName:
        """Take the bot's next number; the bot is made with its first version."""
        check_bot_name(bot)
        body = {"name": bot, "source": f"onggi:/adapters/{bot}", "tags": tags.to_mlflow()}
        body |= {"run_id": tags.run_id} if tags.run_id else {}
        try:
            made = self._call("POST", "model-versions/create", body)
        except _NotFound:
            self._create_bot(bot)
            made = self._call("POST", "model-versions/create", body)
        return VersionName(bot, int(made["model_version"]["version"]))

    def complete(self, name: VersionName, files: str) -> None:
        """Say that the version's files, manifest included, lie at the address ``files``."""
        self._set_tag(name, FILES_TAG, files)

    def record_verdict(self, name: VersionName, verdict: Verdict) -> None:
        """Write what the gate said on the version: its figures, its state and its sentence."""
        self._set_tag(name, "figures", json.dumps(verdict.figures))
        self._set_tag(name, "verdict", verdict.state)
        self._set_tag(name, "verdict_sentence", verdict.sentence)

    def get(self, name: VersionName) -> RegisteredVersion | None:
        """One version, finished or not; None when MLflow has none of that name."""
        try:
            found = self._call("GET", "model-versions/get", {"name": name.bot, "version": str(name.number)})
        except _NotFound:
            return None
        return _read(found["model_version"])

    def list(self, bot: str | None = None, *, unfinished: bool = False) -> list[RegisteredVersion]:
        """All versions, or one bot's, by name and number; those never completed only if asked for."""
        query = {"filter": f"name='{check_bot_name(bot)}'"} if bot else {}
        read = (_read(found) for found in self._pages(query))
        versions = [version for version in read if version and (unfinished or version.files)]
        return sorted(versions, key=lambda version: version.name)

    def delete(self, name: VersionName) -> None:
        """Remove the version from MLflow, which will not give its number again; not there is no error."""
        try:
            self._call("DELETE", "model-versions/delete", {"name": name.bot, "version": str(name.number)})
        except _NotFound:
            return

    def delete_artifacts(self, run_id: str, folder: str) -> None:
        """Remove ``folder`` from a run's artifacts, which MLflow serves; not there is no error."""
        try:
            run = self._call("GET", "runs/get", {"run_id": run_id})["run"]
        except _NotFound:
            return
        uri = str(run["info"]["artifact_uri"])
        if not uri.startswith(PROXIED):
            raise RegistryRefused(
                f"MLflow at {self.url} does not serve the artifacts of run {run_id}, which lie at {uri}: "
                f"delete {uri}/{folder} by hand, or run MLflow with --serve-artifacts"
            )
        self._call("DELETE", f"artifacts/{uri.removeprefix(PROXIED).lstrip('/')}/{folder}", {}, ARTIFACTS)

    def aliases(self, bot: str) -> dict[str, int]:
        """The bot's aliases and the numbers they stand for."""
        try:
            model = self._call("GET", "registered-models/get", {"name": bot})["registered_model"]
        except _NotFound:
            return {}
        return {found["alias"]: int(found["version"]) for found in model.get("aliases", [])}

    def mirror(self, bot: str, *, champion: int | None, candidate: int | None) -> None:
        """Let MLflow's aliases ``champion`` and ``candidate`` say what PostgreSQL's served row says."""
        now = self.aliases(bot)
        for alias, number in {"champion": champion, "candidate": candidate}.items():
            if number is not None and now.get(alias) != number:
                body = {"name": bot, "alias": alias, "version": str(number)}
                self._call("POST", "registered-models/alias", body)
            elif number is None and alias in now:
                self._call("DELETE", "registered-models/alias", {"name": bot, "alias": alias})

    def _create_bot(self, bot: str) -> None:
        try:
            self._call("POST", "registered-models/create", {"name": bot})
        except _AlreadyThere:
            return  # another job made it first

    def _set_tag(self, name: VersionName, key: str, value: str) -> None:
        body = {"name": name.bot, "version": str(name.number), "key": key, "value": value}
        self._call("POST", "model-versions/set-tag", body)

    def _pages(self, query: dict[str, str]) -> Iterator[dict[str, Any]]:
        token = ""
        while True:
            page = {"max_results": str(PAGE), **({"page_token": token} if token else {})}
            answer = self._call("GET", "model-versions/search", query | page)
            yield from answer.get("model_versions", [])
            token = answer.get("next_page_token", "")
            if not token:
                return

    def _call(self, method: str, path: str, values: dict[str, Any], api: str = "mlflow") -> dict[str, Any]:
        import httpx

        url = f"{self.url}/api/2.0/{api}/{path}"
        sent: dict[str, Any] = {"params": values} if method == "GET" else {"json": values}
        try:
            with httpx.Client(
                transport=httpx.HTTPTransport(retries=2),  # of the connection only: a request is sent once
                timeout=httpx.Timeout(30, connect=3),
            ) as client:
                answer = client.request(method, url, **sent)
        except httpx.HTTPError as error:
            raise RegistryUnavailable(
                f"MLflow does not answer at {self.url} ({error}): start it, or set MLFLOW_TRACKING_URI"
            ) from None
        if answer.is_success:
            return dict(answer.json())
        raise _refusal(self.url, answer.status_code, answer.text)


class _NotFound(RegistryRefused):
    """MLflow has no such model or version."""


class _AlreadyThere(RegistryRefused):
    """MLflow has a model of that name."""


def _refusal(url: str, status: int, text: str) -> RegistryError:
    try:
        answer = json.loads(text)
        code, message = str(answer["error_code"]), str(answer["message"])
    except (ValueError, KeyError, TypeError):
        code, message = "", text.strip()[:300]
    if code == "RESOURCE_DOES_NOT_EXIST":
        return _NotFound(message)
    if code == "RESOURCE_ALREADY_EXISTS":
        return _AlreadyThere(message)
    if "Invalid Host header" in message:
        message += ": name this host in MLflow's MLFLOW_SERVER_ALLOWED_HOSTS, with and without its port"
    return _trouble(status, f"MLflow at {url} refused with {status}: {message}")


def _read(found: dict[str, Any]) -> RegisteredVersion | None:
    raw = {tag["key"]: tag["value"] for tag in found.get("tags", [])}
    tags = VersionTags.from_mlflow(raw)
    if tags is None or not is_bot_name(found["name"]):
        return None
    name = VersionName(found["name"], int(found["version"]))
    return RegisteredVersion(name, tags, raw.get(FILES_TAG), found["creation_timestamp"] / 1000)
