"""Which model answers."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from service.deps import Manager

router = APIRouter(prefix="/v1", tags=["models"])


@router.get("/models")
async def models(manager: Manager) -> dict[str, Any]:
    return {"models": manager.infos()}
