"""/health (the process runs), /ready (it can serve), /metrics (for Prometheus; never routed outside)."""

from fastapi import APIRouter, Response

from common import metrics
from common.openai_errors import unavailable
from services.gateway.deps import GatewayDep

router = APIRouter(tags=["health"])


@router.get("/health")
async def health() -> dict[str, str]:
    """The process runs."""
    return {"status": "ok"}


@router.get("/ready")
async def ready(gateway: GatewayDep) -> dict[str, str]:
    """Requests are accepted. A model server that is away is told per request."""
    if gateway.traffic.is_leaving:
        raise unavailable("This process is being stopped.")
    if not gateway.served.database_answers:
        raise unavailable("The database is away.")
    return {"status": "ready"}


@router.get("/metrics", include_in_schema=False)
async def show_metrics() -> Response:
    """The Prometheus page."""
    page, content_type = metrics.exposition()
    return Response(page, headers={"content-type": content_type})
