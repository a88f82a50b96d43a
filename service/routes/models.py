"""Which models answer, and newer versions of them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from service.auth import Admin
from service.deps import Manager

router = APIRouter(prefix="/v1", tags=["models"])


@router.get("/models")
async def models(manager: Manager) -> dict[str, Any]:
    """The models that are served, the default one first, and those that should be and are not, with the reason."""
    return {"models": manager.infos(), "unavailable": manager.unavailable()}


@router.post("/models/reload")
def reload(manager: Manager, caller: Admin, alias: str | None = None) -> dict[str, Any]:
    """Serves the newest version of ``alias``, or of every model. Answers once it has imputed; a version that is bad
    is refused with 409, and what was served before goes on. For keys that ``VCFBERT_ADMIN_KEYS`` names."""
    return manager.reload(alias)
