"""Is the process alive, and can it answer?"""

from __future__ import annotations

from fastapi import APIRouter, Response

from service.deps import Manager
from service.problems import problem

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@router.get("/readyz", response_model=None)
async def readyz(manager: Manager) -> Response | dict[str, str]:
    reason = manager.not_ready
    return {"status": "ready"} if reason is None else problem(503, "not_ready", reason)
