"""Metrics for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from .deps import AppMetrics

router = APIRouter(tags=["health"])


@router.get("/metrics", response_class=Response)
def metrics(metrics: AppMetrics) -> Response:
    """In Prometheus's text format. Needs a key, unless asked by the service's own machine."""
    return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)
