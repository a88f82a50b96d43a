"""Quality control of an upload without imputation. A checked upload can be kept for a later job."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, Path, Query, UploadFile

from vcfbert.errors import InputError
from vcfbert.genotypes.parsing.process import Parser

from ..http.auth import Caller
from ..http.examples import FILE_LIMITS, NOTE, QC, UPLOAD, UPLOAD_ID, VCF, answers, form, problem_example, problems
from ..http.options import CHAIN, MODEL, STRICT
from ..uploads.chains import Chain
from ..uploads.files import FILE_FIELD, Upload, check_upload, hide_paths, one_file, received
from ..uploads.kept import UPLOAD_FIELD, KeptUpload
from .deps import AppParsers, AppSettings, Kept, Manager, StillWanted

router = APIRouter(prefix="/v1/qc", tags=["impute"])

_KEEP = "keep a usable file for a later job: `upload.id` of the response names it for `POST /v1/jobs`"
_MAX_NOTES = 1000
_PROBLEM = problem_example("wrong_build")
_REFUSED = {name: _PROBLEM[name] for name in ("code", "detail", "where", "hint")}
_REPORT = {**QC, "sites": [NOTE]}
_EXAMPLES = answers(
    usable=("a usable file", _REPORT),
    kept=("a file that was kept for a job", {**_REPORT, "upload": UPLOAD}),
    refused=("a file that cannot be imputed", {**_REPORT, "refused": _REFUSED}),
)


@router.post(
    "",
    summary="Check a file",
    response_description="the QC report",
    dependencies=[Depends(one_file)],
    responses={
        200: _EXAMPLES,
        **problems(
            "model_unknown", "upload_unknown", "upload_stalled", "too_large", *FILE_LIMITS, "request_invalid",
            "chain_unknown", "not_ready", "too_slow", "disk_full", "storage_unusable",
        ),
    },
    openapi_extra=form(
        file=("a file", {"file": VCF}),
        keep=("a file to keep for a job", {"file": VCF, "keep": "true"}),
        upload=("a kept upload, checked for another model", {"upload": UPLOAD_ID, "model": "par2"}),
    ),
)  # fmt: skip
def qc(
    manager: Manager,
    settings: AppSettings,
    caller: Caller,
    kept: Kept,
    parsers: AppParsers,
    still_wanted: StillWanted,
    file: Annotated[UploadFile | None, File(description=FILE_FIELD)] = None,
    upload: Annotated[str | None, Form(description=UPLOAD_FIELD)] = None,
    keep: Annotated[bool, Form(description=_KEEP)] = False,
    strict: Annotated[bool, Form(description=STRICT)] = False,
    chain: Annotated[str | None, Form(description=CHAIN)] = None,
    model: Annotated[str | None, Query(description=MODEL)] = None,
    form_model: Annotated[str | None, Form(alias="model", description=MODEL)] = None,
) -> dict[str, Any]:
    """Compares `file`, a VCF, VCF.gz or BCF, with the panel and imputes nothing. The report has the overlap with the
    panel, the genome build, phase, missing calls, typed density and allele frequencies. `sites` lists the first 1,000
    repaired or excluded sites. `refused` is present if the file cannot be imputed; it is the only member if the file
    cannot be read."""
    served = manager.get(form_model or model or None)
    lifted_by = Chain.named(chain, settings.chain_files)
    before = kept.named(caller.name, file, upload)
    if before is not None:
        with parsers.open(before.upload.target) as parser:
            answer = _answer(served.imputer, before.upload, parser, still_wanted, strict, lifted_by)
        kept.get(caller.name, before.id)  # raises if another request deleted the file while it was read
        return {**answer, "upload": _kept_members(before)}
    assert file is not None
    with received(file, settings) as chosen:
        with parsers.open(chosen.target) as parser:
            check_upload(chosen.target, settings, parser, still_wanted)
            answer = _answer(served.imputer, chosen, parser, still_wanted, strict, lifted_by)
        if keep and "refused" not in answer:
            answer["upload"] = _kept_members(kept.keep(caller.name, chosen))
        return answer


@router.delete(
    "/{upload_id}",
    summary="Delete a kept upload",
    response_description="the upload was deleted",
    status_code=204,
    responses=problems("upload_unknown", "request_invalid"),
)
def remove(upload_id: Annotated[str, Path(description="id of the upload")], caller: Caller, kept: Kept) -> None:
    """Deletes an upload that `POST /v1/qc` kept."""
    kept.remove(caller.name, upload_id)


def _answer(
    imputer: Any, upload: Upload, parser: Parser, still_wanted: Callable[[], None], strict: bool, chain: Chain
) -> dict[str, Any]:
    from vcfbert.imputation.files import check_target

    try:
        report, refusal = check_target(
            imputer, upload.target, strict=strict, chain=chain.file, parser=parser, cancelled=still_wanted
        )
    except InputError as error:
        chain.explain(error)
        return {"refused": _refused(error, upload)}
    answer = {**report.summary(), "sites": [asdict(note) for note in report.notes[:_MAX_NOTES]]}
    if refusal is not None:
        chain.explain(refusal)
    return answer if refusal is None else {**answer, "refused": _refused(refusal, upload)}


def _kept_members(kept: KeptUpload) -> dict[str, Any]:
    expires = datetime.fromtimestamp(kept.expires, UTC).isoformat()
    return {"id": kept.id, "name": kept.name, "size": kept.size, "expires": expires}


def _refused(error: InputError, upload: Upload) -> dict[str, str]:
    """Returns the members of a problem. They name the file as the caller does, and no path of this machine."""
    hide_paths(error, upload)
    members = {"code": error.code, "detail": error.what, "where": error.where, "hint": error.hint}
    return {key: text for key, text in members.items() if text is not None}
