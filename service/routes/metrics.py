"""Prometheus metrics."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from .deps import AppMetrics
from .threads import MetricsRoute

router = APIRouter(tags=["health"], route_class=MetricsRoute)


@router.get(
    "/metrics",
    summary="Get the metrics for Prometheus",
    response_class=Response,
    responses={200: {"description": "metrics in Prometheus's text format", "content": {"text/plain": {}}}},
)
def metrics(metrics: AppMetrics) -> Response:
    """Requests from the service's own machine need no key."""
    return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)
