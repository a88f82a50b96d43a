"""The JSON of a job in answers to clients."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from vcfbert.errors import InputError

from ..http.examples import JOB_ID, QC
from ..http.problems import encodable
from .job import DONE, FAILED, RUNNING, Job

_SELF = f"/v1/jobs/{JOB_ID}"
_LINKS = {"self": _SELF, "result": None, "index": None, "qc": None, "qc_sites": None, "report": None}

QUEUED: dict[str, Any] = {
    "id": JOB_ID,
    "state": "queued",
    "created": "2026-03-01T12:00:00Z",
    "started": None,
    "finished": None,
    "expires": None,
    "name": "samples.vcf.gz",
    "size": 183_442,
    "model": {"alias": "default", "version": "3", "variant": "v19", "digest": "9f2c"},
    "options": {
        "region": None,
        "format": "vcf.gz",
        "fields": ["GT", "DS"],
        "min_dr2": 0.0,
        "strict": False,
        "chain": None,
    },
    "progress": {"done": 0, "total": 0, "share": 0.0},
    "position": 1,
    "attempt": 0,
    "qc": None,
    "timings": {"queued_s": 0.0, "running_s": None},
    "summary": None,
    "error": None,
    "links": _LINKS,
}
EXAMPLE: dict[str, Any] = {
    **QUEUED,
    "state": "running",
    "started": "2026-03-01T12:00:01Z",
    "progress": {"done": 4096, "total": 24990, "share": 0.1639},
    "position": None,
    "attempt": 1,
    "qc": QC,
    "timings": {"queued_s": 1.0, "running_s": 3.2},
    "links": {**_LINKS, "qc": f"{_SELF}/qc"},
}

_CURSOR = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)-([0-9a-f]{32})")
LIST: dict[str, Any] = {
    "jobs": [
        {
            "id": JOB_ID, "state": "done", "created": "2026-03-01T12:00:00Z", "started": "2026-03-01T12:00:01Z",
            "finished": "2026-03-01T12:00:05Z", "expires": "2026-03-03T12:00:05Z", "name": "samples.vcf.gz",
            "size": 183_442, "model": QUEUED["model"], "progress": {"done": 24990, "total": 24990, "share": 1.0},
            "attempt": 1, "error": None,
        }
    ],
    "next": f"1772366400.0-{JOB_ID}",
}  # fmt: skip


class JobModel(BaseModel):
    """The model version that the job uses: the one that was live at submission."""

    alias: str
    version: str
    variant: str
    digest: str = Field(description="of the bundle")


class JobProgress(BaseModel):
    """How much of the last attempt is done."""

    done: int = Field(description="panel sites imputed; phasing counts as a third of all sites")
    total: int = Field(description="panel sites to impute; 0 until the upload was read")
    share: float = Field(ge=0, le=1)


class JobTimings(BaseModel):
    """Seconds in the queue and in the last attempt."""

    queued_s: float = Field(description="seconds from acceptance to the start of the last attempt, or until now")
    running_s: float | None = Field(description="seconds of the last attempt, or until now")


class JobError(BaseModel):
    """Why a job failed: a stable code, the fault, its place in the upload and what to do."""

    code: str
    detail: str
    where: str | None = None
    hint: str | None = None


class JobLinks(BaseModel):
    """Paths of what is available now."""

    self_: str = Field(alias="self")
    result: str | None = None
    index: str | None = None
    qc: str | None = None
    qc_sites: str | None = None
    report: str | None = None


class JobOut(BaseModel):
    """A job: queued, running, done, failed, cancelled or expired."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    id: str
    state: str
    created: datetime
    started: datetime | None
    finished: datetime | None
    expires: datetime | None = Field(description="time at which its files are deleted")
    name: str = Field(description="file name of the upload")
    size: int = Field(description="bytes of the upload")
    model: JobModel
    options: dict[str, Any]
    progress: JobProgress
    position: int | None = Field(description="place in the queue, from 1")
    attempt: int = Field(description="number of times that workers have started it")
    qc: dict[str, Any] | None
    timings: JobTimings
    summary: dict[str, Any] | None = Field(description="figures of the result")
    error: JobError | None
    links: JobLinks


class ListedJob(BaseModel):
    """A job in a list. `GET /v1/jobs/{job_id}` has its QC summary, options, timings and links."""

    id: str
    state: str
    created: datetime
    started: datetime | None
    finished: datetime | None
    expires: datetime | None = Field(description="time at which its files are deleted")
    name: str = Field(description="file name of the upload")
    size: int = Field(description="bytes of the upload")
    model: JobModel
    progress: JobProgress
    attempt: int = Field(description="number of times that workers have started it")
    error: JobError | None


class JobList(BaseModel):
    """A page of the jobs of one key, newest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [LIST]})

    jobs: list[ListedJob]
    next: str | None = Field(description="`cursor` of the next page; null on the last one")


def job_list(found: Sequence[Job], limit: int) -> JobList:
    """A page of ``limit`` jobs. ``found``: one job more, if there is another page."""
    page = found[:limit]
    return JobList(
        jobs=[ListedJob.model_validate(_common(job)) for job in page],
        next=cursor_of(page[-1]) if len(found) > limit else None,
    )


def cursor_of(job: Job) -> str:
    """The cursor of the page that follows ``job``."""
    return f"{job.created!r}-{job.id}"


def read_cursor(text: str) -> tuple[float, str]:
    """Creation time and id of the job that a page follows. Raises InputError 'cursor_invalid'."""
    match = _CURSOR.fullmatch(text)
    if match is None:
        hint = "send the member `next` of the page before, or omit it for the first page"
        raise InputError("cursor_invalid", "this is not the cursor of a page", hint=hint)
    return float(match[1]), match[2]


def job_out(job: Job, *, position: int | None, now: float) -> JobOut:
    """The job for its caller. ``position``: place in the queue, from 1. ``now``: seconds since the epoch."""
    begun = job.started is not None
    return JobOut(
        **_common(job),
        options=encodable(job.options),
        position=position,
        qc=encodable(job.qc),
        timings=JobTimings(
            queued_s=_seconds(job.created, job.started or job.finished or now),
            running_s=_seconds(job.started or 0.0, job.finished or now) if begun else None,
        ),
        summary=encodable(job.summary),
        links=_links(job),
    )


def _common(job: Job) -> dict[str, Any]:
    """What a job and its row in a list have in common."""
    total = max(job.total, job.done)
    share = 1.0 if job.state == DONE else job.done / total if total else 0.0
    return {
        "id": job.id,
        "state": job.state,
        "created": _time(job.created),
        "started": None if job.started is None else _time(job.started),
        "finished": None if job.finished is None else _time(job.finished),
        "expires": None if job.expires is None else _time(job.expires),
        "name": encodable(job.name),
        "size": job.size,
        "model": JobModel.model_validate(job.model.as_json()),
        "progress": JobProgress(done=job.done, total=total, share=round(share, 4)),
        "attempt": job.attempt,
        "error": None if job.error is None else JobError(**encodable(job.error)),
    }


def _links(job: Job) -> JobLinks:
    here = f"/v1/jobs/{job.id}"
    done = job.state == DONE
    checked = done or (job.state == FAILED and job.qc is not None)
    links = {
        "self": here,
        "result": f"{here}/result" if done else None,
        "index": f"{here}/result/index" if done else None,
        "qc": f"{here}/qc" if checked or (job.state == RUNNING and job.qc is not None) else None,
        "qc_sites": f"{here}/qc/sites" if checked else None,
        "report": f"{here}/report" if done else None,
    }
    return JobLinks.model_validate(links)


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _seconds(start: float, end: float) -> float:
    return round(max(end - start, 0.0), 3)
