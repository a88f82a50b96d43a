"""Lists and reloads the served models."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from ..http.auth import Admin
from ..http.examples import answers, problems
from .deps import Manager

router = APIRouter(prefix="/v1", tags=["models"])

_MODELS = {
    "models": [
        {
            "alias": "default", "reference": "models:/vcfbert@champion", "version": "3", "digest": "9f2c",
            "variant": "v19", "panel_digest": "77ab", "regions": [{"chrom": "20", "from": 1000000, "to": 3999941}],
            "n_sites": 24990, "n_haplotypes": 600, "metrics": {"val/r2/all": 0.9474}, "stale": False,
        }
    ],
    "unavailable": [{"alias": "par2", "reference": "models:/par2@champion", "reason": "the model is being loaded"}],
}  # fmt: skip
_RELOADED = {"alias": "default", "changed": True, "version": "3", "before": "2"}


@router.get("/models", responses={200: answers(served=("one model, of the registry", _MODELS)), **problems()})
async def models(manager: Manager) -> dict[str, Any]:
    """The models that are served, the default one first, and those that should be and are not, with the reason."""
    return {"models": manager.infos(), "unavailable": manager.unavailable()}


@router.post(
    "/models/reload",
    responses={
        200: answers(newer=("a newer version is served", {"models": [_RELOADED]})),
        **problems("forbidden", "model_unknown", "reload_refused"),
    },
)
def reload(manager: Manager, caller: Admin, alias: str | None = None) -> dict[str, Any]:
    """Serves the newest version of ``alias``, or of every model. Answers once it has imputed; a version that is bad
    is refused with 409, and what was served before goes on. For keys that ``VCFBERT_ADMIN_KEYS`` names."""
    return manager.reload(alias)
