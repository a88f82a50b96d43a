"""Lists and reloads the served models."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from ..http.auth import Admin
from ..http.examples import answers, problems
from .deps import AppSettings, Manager

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
    "chains": ["hg19ToHg38"],
}  # fmt: skip
_RELOADED = {"alias": "default", "changed": True, "version": "3", "before": "2"}


@router.get(
    "/models",
    summary="List the models",
    response_description="the models",
    responses={200: answers(served=("a model of the registry, and one that is loading", _MODELS)), **problems()},
)
async def models(manager: Manager, settings: AppSettings) -> dict[str, Any]:
    """`models` are the served models, the default model first. `unavailable` are the configured models that are not
    served, each with the reason. `chains` are the names of the chain files that requests may give."""
    return {
        "models": manager.infos(),
        "unavailable": manager.unavailable(),
        "chains": list(settings.chain_files),
    }


@router.post(
    "/models/reload",
    summary="Load the newest version of a model",
    response_description="the reloaded models",
    responses={
        200: answers(newer=("a newer version was loaded", {"models": [_RELOADED]})),
        **problems("forbidden", "model_unknown", "reload_refused", "request_invalid"),
    },
)
def reload(
    manager: Manager,
    caller: Admin,
    alias: Annotated[str | None, Query(description="alias of the model to reload; all models if omitted")] = None,
) -> dict[str, Any]:
    """Loads the newest version and tests it by one imputation before the response. If it fails, the response is 409
    and the previous version stays in use. Requires a key that `VCFBERT_ADMIN_KEYS` names."""
    return manager.reload(alias)
