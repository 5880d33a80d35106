"""What a local installation keeps: one folder with its database, files, logs and generated secrets."""

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

STATE = Path(os.environ.get("ONGGI_STATE") or ".onggi")


@dataclass(frozen=True)
class Secrets:
    """Generated once for an installation, kept beside the data they open."""

    api_key: str
    admin_password: str
    control_token: str
    jwt_secret_key: str


def folder(profile: str) -> Path:
    """The state folder of ``demo`` or ``front``."""
    return (STATE / profile).resolve()


def load_secrets(state: Path) -> Secrets:
    """Read the installation's secrets, or make them; only its user may read the file."""
    path = state / "secrets.json"
    if path.exists():
        return Secrets(**json.loads(path.read_text()))
    state.mkdir(parents=True, exist_ok=True)
    made = Secrets(
        api_key=f"sk-onggi-{secrets.token_urlsafe(32)}",
        admin_password=secrets.token_urlsafe(12),
        control_token=secrets.token_urlsafe(32),
        jwt_secret_key=secrets.token_urlsafe(48),
    )
    partial = path.with_suffix(".part")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(asdict(made), file)
    partial.rename(path)
    return made
