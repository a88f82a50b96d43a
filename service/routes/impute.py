"""A VCF up, the imputed VCF.gz down."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from fastapi import APIRouter, UploadFile
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask

from service.deps import Manager
from vcfbert.errors import VcfbertError

router = APIRouter(prefix="/v1", tags=["impute"])


@router.post("/impute", response_class=FileResponse)
def impute(file: UploadFile, manager: Manager) -> FileResponse:
    """``file``: VCF, VCF.gz or BCF. The header ``X-Vcfbert-Qc`` says, as JSON, how its sites matched the panel.

    Not ``async``: it runs in a worker thread, and other requests are answered meanwhile.
    """
    from vcfbert.imputation import ImputeOptions

    folder = Path(tempfile.mkdtemp(prefix="vcfbert-"))
    try:
        target, output = folder / "target", folder / "imputed.vcf.gz"
        with target.open("wb") as handle:
            shutil.copyfileobj(file.file, handle)
        summary = manager.get().impute(target, output, ImputeOptions()).report.summary()
    except VcfbertError as error:
        shutil.rmtree(folder, ignore_errors=True)
        if error.where is not None:  # the caller knows the file by its own name
            error.where = error.where.replace(str(folder / "target"), file.filename or "file")
        raise
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return FileResponse(
        output,
        media_type="application/gzip",
        filename="imputed.vcf.gz",
        headers={"X-Vcfbert-Qc": json.dumps(summary)},
        background=BackgroundTask(shutil.rmtree, folder, ignore_errors=True),
    )
