"""Asynchronous imputation jobs: submit, watch, download, cancel. Callers see only their own jobs."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Request, Response, UploadFile
from fastapi.responses import FileResponse

from vcfbert.errors import VcfbertError

from ..http.auth import Caller
from ..http.examples import OPTIONS, QC, UPLOAD_ID, VCF, answers, form, problems
from ..http.options import Requested
from ..jobs.intake import Jobs
from ..jobs.job import DONE, EXPIRED, FAILED, RUNNING, Job, PinnedModel
from ..jobs.schemas import QUEUED as QUEUED_EXAMPLE
from ..jobs.schemas import JobList, JobOut, job_out
from ..uploads.files import one_file, stem
from ..uploads.kept import UPLOAD_FIELD, file_of
from .deps import Kept, Manager

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

_OF_A_JOB = problems("job_unknown", "jobs_unreachable")
_OF_A_FILE = problems("job_unknown", "not_done", "expired", "jobs_unreachable")
_OF_A_RESULT = problems("job_unknown", "not_done", "expired", "range_invalid", "jobs_unreachable")


def _jobs(request: Request) -> Jobs:
    jobs: Jobs = request.app.state.jobs
    return jobs


AppJobs = Annotated[Jobs, Depends(_jobs)]


class NotDoneError(VcfbertError):
    """409: the job has no result yet, or will have none."""


class ExpiredError(VcfbertError):
    """410: the job's files were deleted."""


@router.post(
    "",
    status_code=202,
    dependencies=[Depends(one_file)],
    responses={
        202: answers(queued=("it waits", QUEUED_EXAMPLE)),
        **problems(
            "model_unknown", "upload_unknown", "upload_stalled", "too_large", "request_invalid", "option_min_dr2",
            "queue_full", "not_ready", "jobs_unreachable", "queue_unreachable", "disk_full",
        ),
    },
    openapi_extra=form(
        file=("a file alone", {"file": VCF}),
        options=("a file and what is wanted of it", {"file": VCF, **OPTIONS}),
        upload=("an upload that was kept when it was checked", {"upload": UPLOAD_ID, **OPTIONS}),
    ),
)  # fmt: skip
def submit(
    caller: Caller,
    manager: Manager,
    jobs: AppJobs,
    kept: Kept,
    requested: Requested,
    response: Response,
    file: UploadFile | None = None,
    upload: Annotated[str | None, Form(description=UPLOAD_FIELD)] = None,
) -> JobOut:
    """Sends `file` (VCF, VCF.gz or BCF) to be imputed, or names an upload that `POST /v1/qc` has kept. The answer, with
    status 202, means that the job is on disk: it will be finished also if the service is restarted meanwhile. It is
    done by the model that is served now."""
    served = manager.get(requested.model)
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
        kept.remove(caller.name, before.id)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return _out(jobs, job)


@router.get("", responses=problems("jobs_unreachable"))
def list_jobs(caller: Caller, jobs: AppJobs) -> JobList:
    """The caller's jobs, newest first."""
    return JobList(jobs=[_out(jobs, job) for job in jobs.table.of_caller(caller.name)])


@router.get("/{job_id}", responses=_OF_A_JOB)
def job(job_id: str, caller: Caller, jobs: AppJobs) -> JobOut:
    """How far the job is; what was found out about the upload; why it failed."""
    return _out(jobs, jobs.table.get(caller.name, job_id))


@router.delete("/{job_id}", status_code=204, responses=_OF_A_JOB)
def remove(job_id: str, caller: Caller, jobs: AppJobs) -> None:
    """Cancels a job that waits or runs, and forgets one that has ended. Its files are deleted."""
    jobs.remove(caller.name, job_id)


@router.get("/{job_id}/result", response_class=FileResponse, responses=_OF_A_RESULT)
def result(job_id: str, caller: Caller, jobs: AppJobs) -> FileResponse:
    """The imputed VCF.gz or BCF. Answers range requests."""
    done = _done(jobs, caller.name, job_id)
    extension = str(done.options["format"])
    media_type = "application/gzip" if extension == "vcf.gz" else "application/octet-stream"
    return _file(jobs.files.result(job_id, extension), media_type, f"{stem(done.name)}.imputed.{extension}")


@router.get("/{job_id}/result/index", response_class=FileResponse, responses=_OF_A_FILE)
def index(job_id: str, caller: Caller, jobs: AppJobs) -> FileResponse:
    """The result's index: .tbi of a VCF.gz, .csi of a BCF."""
    done = _done(jobs, caller.name, job_id)
    extension = str(done.options["format"])
    path = jobs.files.index(job_id, extension)
    return _file(path, "application/octet-stream", f"{stem(done.name)}.imputed.{extension}{path.suffix}")


@router.get("/{job_id}/qc", responses={200: answers(qc=("the summary", QC)), **_OF_A_FILE})
def qc(job_id: str, caller: Caller, jobs: AppJobs) -> dict[str, Any]:
    """How the upload's sites matched the panel: there as soon as it has been read, also where it was refused then."""
    checked = _present(jobs.table.get(caller.name, job_id))
    if checked.qc is None or checked.state not in (RUNNING, DONE, FAILED):
        raise _not_done(checked)
    return dict(checked.qc)


@router.get("/{job_id}/qc/sites", response_class=FileResponse, responses=_OF_A_FILE)
def qc_sites(job_id: str, caller: Caller, jobs: AppJobs) -> FileResponse:
    """The upload's sites that were repaired or left out, one a line, as TSV."""
    checked = _present(jobs.table.get(caller.name, job_id))
    path = jobs.files.qc_sites(job_id)
    if checked.state not in (DONE, FAILED) or not path.is_file():
        raise _not_done(checked)
    return _file(path, "text/tab-separated-values", f"{stem(checked.name)}.qc.tsv")


@router.get("/{job_id}/report", response_class=FileResponse, responses=_OF_A_FILE)
def report(job_id: str, caller: Caller, jobs: AppJobs) -> FileResponse:
    """Model, options, QC summary and figures of the result, as JSON."""
    done = _done(jobs, caller.name, job_id)
    return _file(jobs.files.report(job_id), "application/json", f"{stem(done.name)}.report.json")


def _out(jobs: Jobs, job: Job) -> JobOut:
    return job_out(job, position=jobs.table.position(job), now=time.time())


def _present(job: Job) -> Job:
    if job.state == EXPIRED:
        raise _expired()
    return job


def _expired() -> ExpiredError:
    return ExpiredError("expired", "the files of this job were deleted, as their time was over", hint="send it again")


def _not_done(job: Job) -> NotDoneError:
    return NotDoneError(
        "not_done", f"the job is {job.state}", hint="GET /v1/jobs/ID says how far it is, or why it failed"
    )


def _done(jobs: Jobs, caller: str, job_id: str) -> Job:
    job = _present(jobs.table.get(caller, job_id))
    if job.state != DONE:
        raise _not_done(job)
    return job


def _file(path: Path, media_type: str, name: str) -> FileResponse:
    if not path.is_file():
        raise _expired()  # housekeeping deleted it after the state was read
    return FileResponse(path, media_type=media_type, filename=name, headers={"Cache-Control": "private, no-cache"})
