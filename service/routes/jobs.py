"""Imputation jobs: submit, follow, download, cancel. Callers see only their own jobs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, Query, Request, Response, UploadFile
from fastapi import Path as PathParameter
from fastapi.responses import FileResponse
from starlette.types import Receive, Scope, Send

from vcfbert.errors import VcfbertError

from ..http.auth import Caller
from ..http.examples import OPTIONS, QC, UPLOAD_ID, VCF, answers, form, problems
from ..http.options import Requested
from ..http.problems import encodable, problem_of
from ..jobs.intake import Jobs
from ..jobs.job import DONE, EXPIRED, FAILED, RUNNING, Job, PinnedModel
from ..jobs.schemas import LIST, JobList, JobOut, job_list, job_out, read_cursor
from ..jobs.schemas import QUEUED as QUEUED_EXAMPLE
from ..uploads.chains import Chain
from ..uploads.files import FILE_FIELD, one_file, stem
from ..uploads.kept import UPLOAD_FIELD, file_of
from .deps import AppSettings, Kept, Manager
from .threads import JobRoute

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=JobRoute)

MAX_PAGE = 500

_OF_A_JOB = problems("job_unknown", "request_invalid", "jobs_unreachable", "busy")
_OF_A_FILE = problems("job_unknown", "request_invalid", "not_done", "expired", "jobs_unreachable", "busy")
_OF_A_RESULT = problems(
    "job_unknown", "request_invalid", "not_done", "expired", "range_invalid", "jobs_unreachable", "busy"
)


def _jobs(request: Request) -> Jobs:
    jobs: Jobs = request.app.state.jobs
    return jobs


AppJobs = Annotated[Jobs, Depends(_jobs)]
JobId = Annotated[str, PathParameter(description="id of the job")]


def _file_route(path: str, **more: Any) -> Callable[[Callable[..., FileResponse]], Callable[..., FileResponse]]:
    """A route of GET, which the documentation shows, and of HEAD."""

    def add(endpoint: Callable[..., FileResponse]) -> Callable[..., FileResponse]:
        router.get(path, **more)(endpoint)
        router.head(path, include_in_schema=False)(endpoint)
        return endpoint

    return add


class NotDoneError(VcfbertError):
    """409: the job has no result yet, or it failed."""


class ExpiredError(VcfbertError):
    """410: the job's files were deleted."""


@router.post(
    "",
    summary="Submit a job",
    status_code=202,
    response_description="the queued job",
    dependencies=[Depends(one_file)],
    responses={
        202: answers(queued=("a queued job", QUEUED_EXAMPLE)),
        **problems(
            "model_unknown", "upload_unknown", "upload_stalled", "too_large", "request_invalid", "option_min_dr2",
            "chain_unknown", "queue_full", "not_ready", "jobs_unreachable", "busy", "queue_unreachable", "disk_full",
            "storage_unusable",
        ),
    },
    openapi_extra=form(
        file=("a file with default options", {"file": VCF}),
        options=("a file with options", {"file": VCF, **OPTIONS}),
        upload=("an upload that `POST /v1/qc` kept", {"upload": UPLOAD_ID, **OPTIONS}),
    ),
)  # fmt: skip
def submit(
    caller: Caller,
    manager: Manager,
    settings: AppSettings,
    jobs: AppJobs,
    kept: Kept,
    requested: Requested,
    response: Response,
    file: Annotated[UploadFile | None, File(description=FILE_FIELD)] = None,
    upload: Annotated[str | None, Form(description=UPLOAD_FIELD)] = None,
) -> JobOut:
    """Queues the imputation of `file`, a VCF, VCF.gz or BCF, or of an `upload` that `POST /v1/qc` kept. Status 202
    means that the job is stored: it survives a restart of the service. A job uses the model version that was live at
    submission."""
    served = manager.get(requested.model)
    Chain.named(requested.options.chain, settings.chain_files)  # raises for an unknown one
    before = kept.named(caller.name, file, upload)
    with file_of(file, before) as (content, name):
        job = jobs.submit(
            content,
            caller=caller.name,
            name=name,
            options=asdict(requested.options),
            model=PinnedModel(served.alias, str(served.info.get("variant", "")), served.version),
        )
    if before is not None:
        kept.discard(before)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return _out(jobs, job)


@router.get(
    "",
    summary="List your jobs",
    response_description="a page of jobs",
    responses={
        200: answers(page=("a page of jobs", LIST)),
        **problems("request_invalid", "cursor_invalid", "jobs_unreachable", "busy"),
    },
)
def list_jobs(
    caller: Caller,
    jobs: AppJobs,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="maximum jobs of the page")] = 100,
    cursor: Annotated[str | None, Query(description="`next` of the page before; omit it for the first page")] = None,
) -> JobList:
    """Returns the jobs of the caller's key, newest first, in pages. A job that is submitted meanwhile appears on no
    later page, and a deleted one shifts no other."""
    after = None if cursor is None else read_cursor(cursor)
    return job_list(jobs.table.page(caller.name, limit + 1, after), limit)


@router.get("/{job_id}", summary="Get a job", response_description="the job", responses=_OF_A_JOB)
def job(job_id: JobId, caller: Caller, jobs: AppJobs) -> JobOut:
    """Returns the job's state, progress, QC summary and error."""
    return _out(jobs, jobs.table.get(caller.name, job_id))


@router.delete(
    "/{job_id}",
    summary="Cancel or delete a job",
    response_description="the job was cancelled or deleted",
    status_code=204,
    responses=_OF_A_JOB,
)
def remove(job_id: JobId, caller: Caller, jobs: AppJobs) -> None:
    """Cancels a queued or running job, or deletes a finished one. Its files are deleted."""
    jobs.remove(caller.name, job_id)


@_file_route(
    "/{job_id}/result",
    summary="Download the result",
    response_description="the imputed file",
    response_class=FileResponse,
    responses=_OF_A_RESULT,
)
def result(job_id: JobId, caller: Caller, jobs: AppJobs) -> FileResponse:
    """Returns the imputed VCF.gz or BCF. Range requests are supported."""
    done = _done(jobs, caller.name, job_id)
    extension = str(done.options["format"])
    media_type = "application/gzip" if extension == "vcf.gz" else "application/octet-stream"
    return _file(jobs.files.result(job_id, extension), media_type, f"{stem(done.name)}.imputed.{extension}")


@_file_route(
    "/{job_id}/result/index",
    summary="Download the index of the result",
    response_description="the index file",
    response_class=FileResponse,
    responses=_OF_A_FILE,
)
def index(job_id: JobId, caller: Caller, jobs: AppJobs) -> FileResponse:
    """Returns a .tbi file for VCF.gz or a .csi file for BCF."""
    done = _done(jobs, caller.name, job_id)
    extension = str(done.options["format"])
    path = jobs.files.index(job_id, extension)
    return _file(path, "application/octet-stream", f"{stem(done.name)}.imputed.{extension}{path.suffix}")


@router.get(
    "/{job_id}/qc",
    summary="Get the QC summary of a job",
    response_description="the QC summary",
    responses={200: answers(qc=("the QC summary", QC)), **_OF_A_FILE},
)
def qc(job_id: JobId, caller: Caller, jobs: AppJobs) -> dict[str, Any]:
    """Returns how the sites of the upload match the panel. It is available once the upload was read, even if the job
    failed after that."""
    checked = _present(jobs.table.get(caller.name, job_id))
    if checked.qc is None or checked.state not in (RUNNING, DONE, FAILED):
        raise _not_done(checked)
    return dict(encodable(checked.qc))


@_file_route(
    "/{job_id}/qc/sites",
    summary="Download the QC table of sites",
    response_description="the table",
    response_class=FileResponse,
    responses=_OF_A_FILE,
)
def qc_sites(job_id: JobId, caller: Caller, jobs: AppJobs) -> FileResponse:
    """Returns the repaired and excluded sites of the upload as TSV, one site per line."""
    checked = _present(jobs.table.get(caller.name, job_id))
    path = jobs.files.qc_sites(job_id)
    if checked.state not in (DONE, FAILED) or not path.is_file():
        raise _not_done(checked)
    return _file(path, "text/tab-separated-values", f"{stem(checked.name)}.qc.tsv")


@_file_route(
    "/{job_id}/report",
    summary="Download the report",
    response_description="the report",
    response_class=FileResponse,
    responses=_OF_A_FILE,
)
def report(job_id: JobId, caller: Caller, jobs: AppJobs) -> FileResponse:
    """Returns the model, the options, the QC summary and the statistics of the result as JSON."""
    done = _done(jobs, caller.name, job_id)
    return _file(jobs.files.report(job_id), "application/json", f"{stem(done.name)}.report.json")


def _out(jobs: Jobs, job: Job) -> JobOut:
    return job_out(job, position=jobs.table.position(job), now=time.time())


def _present(job: Job) -> Job:
    if job.state == EXPIRED:
        raise _expired()
    return job


def _expired() -> ExpiredError:
    return ExpiredError(
        "expired", "the files of this job were deleted at the end of their retention time", hint="submit it again"
    )


def _not_done(job: Job) -> NotDoneError:
    return NotDoneError("not_done", f"the job is {job.state}", hint="GET /v1/jobs/ID shows its progress or its error")


def _done(jobs: Jobs, caller: str, job_id: str) -> Job:
    job = _present(jobs.table.get(caller, job_id))
    if job.state != DONE:
        raise _not_done(job)
    return job


class _JobFile(FileResponse):
    """A file of a job. Answers 410 if it was deleted after the job's state was read."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except RuntimeError:  # Starlette's error for a missing file
            if os.path.exists(self.path):
                raise
            await problem_of(_expired())(scope, receive, send)


def _file(path: Path, media_type: str, name: str) -> FileResponse:
    if not path.is_file():
        raise _expired()  # housekeeping deleted the file after the state was read
    return _JobFile(path, media_type=media_type, filename=name, headers={"Cache-Control": "private, no-cache"})
