"""What stands in a namespace before a release does: a database of the team's own, an endpoint."""

from typing import Any

USER, PASSWORD = "team", "of-this-test"


def standing(name: str, port: int, pod: dict[str, Any]) -> list[dict[str, Any]]:
    """A pod and the Service by which it is found; restricted, as the namespace asks."""
    labels = {"app": name}
    pod["securityContext"] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    for container in pod["containers"]:
        container["securityContext"] |= {
            "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        container["readinessProbe"] = {"tcpSocket": {"port": port}, "periodSeconds": 2}
    return [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": pod},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
         "spec": {"selector": labels, "ports": [{"port": port}]}},
    ]  # fmt: skip


def database(namespace: str, image: str) -> list[dict[str, Any]]:
    """Somebody else's PostgreSQL in ``namespace``, empty, and Secret ``database``, which says where."""
    url = f"{USER}:{PASSWORD}@postgresql.{namespace}.svc:5432/{USER}"
    container = {
        "name": "postgresql", "image": image, "securityContext": {"runAsUser": 999},
        "env": [
            {"name": "POSTGRES_USER", "value": USER},
            {"name": "POSTGRES_PASSWORD", "value": PASSWORD},
            {"name": "PGDATA", "value": "/tmp/data"},
        ],
    }  # fmt: skip
    secret = {
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "database"},
        "stringData": {
            "DATABASE_URL": f"postgresql+asyncpg://{url}",
            "MLFLOW_DATABASE_URL": f"postgresql+psycopg2://{url}",
        },
    }  # fmt: skip
    return [*standing("postgresql", 5432, {"containers": [container]}), secret]
