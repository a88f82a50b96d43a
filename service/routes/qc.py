"""What imputing a file would find out about it, without imputing it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, UploadFile

from service.deps import AppSettings, Manager
from service.inputs import check_upload, received
from service.routes.impute import TOO_LARGE
from vcfbert.errors import InputError

router = APIRouter(prefix="/v1", tags=["impute"])

_MODEL = "alias or version of a served model; the default one if not given"
_MOST_NOTES = 1000
_NOTE = {
    "chrom": "20", "pos": 1000100, "id": "rs1", "ref": "A", "alt": "G", "panel_ref": "G", "panel_alt": "A",
    "status": "swapped", "reason": "REF and ALT are exchanged",
}  # fmt: skip
_REPORT = {
    "n_samples": 1, "n_haploid": 0, "n_target_sites": 520, "n_panel_sites": 24990, "n_used": 495,
    "counts": {"matched": 490, "swapped": 5, "not_in_panel": 25}, "n_swapped": 5, "n_flipped": 0,
    "n_shared_positions": 495, "build_agreement": 1.0, "missing_rate": 0.001, "worst_missing_rate": 0.001,
    "n_much_missing": 0, "phased_share": 1.0, "overlap_share": 0.951923, "typed_per_mb": 165.0,
    "density": [{"start": 1000000, "stop": 1030000, "typed": 5}], "sites": [_NOTE],
}  # fmt: skip
_REFUSED = {"refused": {"code": "wrong_build", "detail": "alleles differ at 17 of 17 positions", "hint": "liftover"}}
_EXAMPLES = {
    "usable": {"summary": "a file that can be imputed", "value": _REPORT},
    "refused": {"summary": "one that cannot be matched to the panel", "value": _REFUSED},
}


@router.post(
    "/qc",
    responses={200: {"content": {"application/json": {"examples": _EXAMPLES}}}, **TOO_LARGE},
)
def qc(
    file: UploadFile,
    manager: Manager,
    settings: AppSettings,
    model: Annotated[str | None, Query(description=_MODEL)] = None,
    form_model: Annotated[str | None, Form(alias="model", description=_MODEL)] = None,
) -> dict[str, Any]:
    """Overlap with the panel, repaired and left-out sites, genome build, phase, missing calls and typed density of
    `file` (VCF, VCF.gz or BCF), with the first thousand of the sites that did not match as they are. `refused` says
    why it could not be imputed, if so; where it cannot even be read or matched, there is nothing else."""
    from vcfbert.imputation import check_target

    served = manager.get(form_model or model or None)
    with received(file, settings) as upload:
        check_upload(upload.target, settings)
        try:
            report, refusal = check_target(served.imputer, upload.target)
        except InputError as error:
            return {"refused": _refused(error, str(upload.target), upload.name)}
    answer = {**report.summary(), "sites": [asdict(note) for note in report.notes[:_MOST_NOTES]]}
    return answer if refusal is None else {**answer, "refused": _refused(refusal, str(upload.target), upload.name)}


def _refused(error: InputError, path: str, name: str) -> dict[str, str]:
    """As a problem's members, under the caller's name of the file."""
    members = {"code": error.code, "detail": error.what, "where": error.where, "hint": error.hint}
    return {key: text.replace(path, name) for key, text in members.items() if text is not None}
