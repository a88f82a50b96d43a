"""Synchronous imputation: takes a VCF and returns the imputed VCF.gz or BCF."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Annotated, BinaryIO

from fastapi import APIRouter, Depends, File, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from vcfbert.errors import InputError, VcfbertError
from vcfbert.genotypes.qc import QcReport, short

from ..http.examples import FILE_LIMITS, OPTIONS, SHORT_QC, VCF, form, problems
from ..http.options import Requested
from ..uploads.chains import Chain
from ..uploads.files import FILE_FIELD, check_upload, one_file, received, stem
from .deps import AppParsers, AppSettings, Manager, StillWanted

router = APIRouter(prefix="/v1", tags=["impute"])

_CHUNK = 1 << 16  # bytes; a client that reads fewer within the stall time is cut
_PIECE = 1 << 20  # bytes read from the disk at once
_MEDIA_TYPES = {"vcf.gz": "application/gzip", "bcf": "application/octet-stream"}


@router.post(
    "/impute",
    summary="Impute a file and wait for the result",
    response_class=StreamingResponse,
    dependencies=[Depends(one_file)],
    responses={
        200: {
            "description": "the imputed VCF.gz or BCF",
            "content": {name: {"schema": {"type": "string", "format": "binary"}} for name in _MEDIA_TYPES.values()},
            "headers": {
                "X-Vcfbert-Qc": {
                    "description": "QC summary as JSON: how the sites of the file match the panel",
                    "schema": {"type": "string"},
                    "example": json.dumps(SHORT_QC),
                }
            },
        },
        **problems(
            "model_unknown", "upload_stalled", "too_large", *FILE_LIMITS, "use_jobs", "request_invalid", "not_vcf",
            "truncated", "file_unreadable", "unsorted_records", "wrong_build", "unphased", "option_min_dr2",
            "chain_unknown", "not_ready", "too_slow", "disk_full", "storage_unusable",
        ),
    },
    openapi_extra=form(
        file=("a file with default options", {"file": VCF}),
        options=("a file with options", {"file": VCF, **OPTIONS}),
    ),
)  # fmt: skip
def impute(
    file: Annotated[UploadFile, File(description=FILE_FIELD)],
    manager: Manager,
    settings: AppSettings,
    parsers: AppParsers,
    still_wanted: StillWanted,
    requested: Requested,
) -> StreamingResponse:
    """Imputes `file`, a VCF, VCF.gz or BCF, and returns the imputed file. Use `POST /v1/jobs` for many samples. Options
    can be form fields or query parameters."""
    # Not async: it runs in a worker thread, so the event loop stays free for other requests.
    served = manager.get(requested.model)
    chain = Chain.named(requested.options.chain, settings.chain_files)
    with received(file, settings) as upload, parsers.open(upload.target) as parser:
        counted = check_upload(upload.target, settings, parser, still_wanted)
        if counted.n_samples > settings.max_small_samples:
            what = (
                f"the file has {counted.n_samples} samples; "
                f"the maximum of a synchronous request is {settings.max_small_samples}"
            )
            raise InputError("use_jobs", what, where=upload.name, hint="send the same request to POST /v1/jobs")
        output = upload.folder / f"imputed.{requested.options.format}"
        reports: list[QcReport] = []  # empty if the file was refused before it was matched to the panel
        try:
            with chain.explained():
                imputed = served.impute(
                    upload.target,
                    output,
                    replace(requested.options, chain=chain.file),
                    kept=False,
                    reported=reports.append,
                    cancelled=still_wanted,
                    parser=parser,
                )
        except VcfbertError as error:
            error.more = {"qc": reports[0].summary()} if reports else None  # type: ignore[attr-defined]
            raise
        # The open file outlives its directory entry, so no clean-up is needed however the response ends.
        handle = output.open("rb")
        first, size = handle.read(_PIECE), output.stat().st_size
        name = f"{stem(upload.name)}.imputed.{requested.options.format}"
    return StreamingResponse(
        _chunks(first, handle),
        media_type=_MEDIA_TYPES[requested.options.format],
        headers={
            "Content-Length": str(size),
            "Content-Disposition": _attachment(name),
            "X-Vcfbert-Qc": json.dumps(short(imputed.report.summary())),
        },
    )


def _attachment(name: str) -> str:
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)
    return f'attachment; filename="{plain}"'


async def _chunks(piece: bytes, handle: BinaryIO) -> AsyncIterator[bytes]:
    """The rest of a file from its first ``piece`` on. A piece is read in a worker thread, which costs more than a
    chunk does."""
    with handle:
        while piece:
            for start in range(0, len(piece), _CHUNK):
                yield piece[start : start + _CHUNK]
            piece = await run_in_threadpool(handle.read, _PIECE) if len(piece) == _PIECE else b""
