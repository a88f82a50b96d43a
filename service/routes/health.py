"""Liveness and readiness probes."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response

from ..http.problems import problem
from ..models.manager import LOADING, STALE
from .deps import AppSettings, Manager

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Check that the process runs", response_description="the process runs")
async def healthz() -> dict[str, str]:
    """Answers 200 as long as the process runs, with or without a model."""
    return {"status": "ok"}


@router.get(
    "/readyz",
    summary="Check that the service is ready",
    response_description="the default model is loaded",
    response_model=None,
    responses={
        503: {"description": "the default model is not loaded, jobs cannot be done, or the service is shutting down"}
    },
)
async def readyz(request: Request, manager: Manager, settings: AppSettings) -> Response | dict[str, Any]:
    """Answers 200 once the default model is loaded, and 503 with the reason until then, or while the data folder cannot
    be written or no worker can be started. `stale` is true if the registry did not answer when asked for a newer
    version. `sick` names what did not answer a few seconds ago: `jobs`, the job table, and `queue`. Without them files
    are still imputed at once, so the answer stays 200."""
    if request.app.state.drain.draining:
        return problem(503, "draining", "the service is shutting down", headers={"Retry-After": "10"})
    reason = manager.not_ready
    public = settings.keys or settings.open  # asked without a key, it tells no path or address of this service
    if reason is not None:
        if public and reason != LOADING:
            reason = "the default model could not be loaded; GET /v1/models gives the reason"
        return problem(503, "not_ready", reason, headers={"Retry-After": "5"})
    broken = await asyncio.to_thread(request.app.state.jobs.fault)
    if broken is not None:
        return problem(503, "not_ready", broken, headers={"Retry-After": "5"})
    stale = [model for model in manager.infos() if model["stale"]]
    sick = request.app.state.jobs.sick
    return {
        "status": "ready",
        "stale": bool(stale),
        **({"reason": STALE if public else stale[0].get("reason")} if stale else {}),
        **({"sick": dict(sick)} if sick else {}),
    }
