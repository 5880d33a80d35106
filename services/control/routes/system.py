"""/health, /ready and /metrics."""

from typing import Any

from fastapi import APIRouter, Response

from common import metrics
from common.openai_errors import unavailable
from services.control.dependencies import ControlDep

router = APIRouter(tags=["system"])


@router.get("/health")
async def health() -> dict[str, Any]:
    """The process lives."""
    return {"status": "ok"}


@router.get("/ready")
async def ready(control: ControlDep) -> dict[str, Any]:
    """It can work: the database answers."""
    try:
        await control.database.ping()
    except Exception as error:  # any driver's own kinds
        raise unavailable(f"The database does not answer ({type(error).__name__}).") from None
    return {"status": "ready"}


@router.get("/metrics", include_in_schema=False)
async def get_metrics() -> Response:
    """Prometheus' page."""
    content, media_type = metrics.exposition()
    return Response(content, headers={"Content-Type": media_type})
