"""Liveness and readiness probes."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from ..http.problems import problem
from .deps import Manager

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Whether the process runs."""
    return {"status": "ok"}


@router.get("/readyz", response_model=None)
async def readyz(request: Request, manager: Manager) -> Response | dict[str, Any]:
    """Whether the default model answers. ``stale``: the registry could not be asked whether there is a newer one."""
    if request.app.state.drain.draining:
        return problem(503, "draining", "the service is being stopped", headers={"Retry-After": "10"})
    reason = manager.not_ready
    if reason is not None:
        return problem(503, "not_ready", reason, headers={"Retry-After": "5"})
    old = [model for model in manager.infos() if model["stale"]]
    if not old:
        return {"status": "ready", "stale": False}
    return {"status": "ready", "stale": True, "reason": old[0].get("reason")}
