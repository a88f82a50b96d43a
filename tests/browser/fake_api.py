"""The service's contract with canned answers, for states that the real one reaches seldom or slowly.

A test holds the ``Fake`` and changes it while the page is open: a queue that is full, a key that is needed, a model
that is being loaded. Jobs go on with time. It can be looked at by hand: ``python -m tests.browser.fake_api``.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import FastAPI, Form, Request, Response, UploadFile
from fastapi.responses import JSONResponse

from service.routes import page
from tests.browser.servers import POLICY

MODEL = {
    "alias": "champion",
    "reference": "models:/vcfbert@champion",
    "version": "3",
    "variant": "v19",
    "regions": [{"chrom": "20", "from": 1000000, "to": 2999941}],
    "n_sites": 24990,
    "n_haplotypes": 600,
    "metrics": {"val/r2/all": 0.9477},
}
STRETCHES = [
    {"chrom": "20", "start": 1000000 + i * 20000, "stop": 1019999 + i * 20000, "typed": (i * 7919) % 9 if i % 17 else 0}
    for i in range(100)
]
QC: dict[str, Any] = {
    "n_samples": 203,
    "n_haploid": 0,
    "n_target_sites": 520,
    "n_panel_sites": 24990,
    "panel_filled": 0.0,
    "n_used": 495,
    "counts": {
        "matched": 471, "swapped": 12, "flipped": 8, "flipped_swapped": 1, "ambiguous_resolved": 3,
        "ambiguous_left_out": 6, "allele_mismatch": 2, "not_in_panel": 16, "duplicate": 1,
    },
    "n_shared_positions": 504,
    "build_agreement": 0.996,
    "missing_rate": 0.0031,
    "worst_missing_rate": 0.081,
    "n_much_missing": 2,
    "phased_share": 0.75,
    "overlap_share": 0.952,
    "typed_per_mb": 247.5,
    "density": STRETCHES,
    "frequencies": {
        "n_sites": 495, "correlation": 0.9831, "n_different": 3, "n_mirrored": 2,
        "different": [
            {"chrom": "20", "pos": 1200345, "ref": "A", "alt": "T", "panel": 0.1217, "target": 0.8804},
            {"chrom": "20", "pos": 2481230, "ref": "C", "alt": "G", "panel": 0.79, "target": 0.18},
            {"chrom": "20", "pos": 1703911, "ref": "G", "alt": "A", "panel": 0.21, "target": 0.49},
        ],
        "cells": [
            [round(i / 100, 3), round(min(max(i / 100 + ((i * 7919) % 13 - 6) / 90, 0), 1), 3), 1 + (i * 31) % 5]
            for i in range(0, 101)
        ],
    },
}  # fmt: skip
NOTE = {
    "chrom": "20", "id": ".", "ref": "A", "alt": "G", "panel_ref": "G", "panel_alt": "A",
    "status": "swapped", "reason": "REF and ALT are exchanged",
}  # fmt: skip
SUMMARY = {
    "n_samples": 203,
    "n_sites": 24990,
    "n_left_out": 0,
    "dr2_by_maf": [
        {"low": 0.0, "high": 0.005, "n": 9120, "mean_dr2": 0.31},
        {"low": 0.005, "high": 0.01, "n": 3010, "mean_dr2": 0.52},
        {"low": 0.01, "high": 0.05, "n": 5212, "mean_dr2": 0.71},
        {"low": 0.05, "high": 0.5, "n": 7648, "mean_dr2": 0.93},
    ],
    "dr2_histogram": [{"low": i / 20, "high": (i + 1) / 20, "n": 400 + 35 * (i - 9) ** 2} for i in range(20)],
    "gq_histogram": [
        {"low": low, "high": high, "n": n}
        for low, high, n in zip(
            (0, 5, 10, 15, 20, 25, 30), (5, 10, 15, 20, 25, 30, 99), (3, 9, 14, 18, 60, 190, 4706), strict=True
        )
    ],
    "density": STRETCHES,
}  # fmt: skip
QC_OF_SITES = "chrom\tpos\n20\t1000001\n"


def problem(status: int, code: str, detail: str, **more: Any) -> JSONResponse:
    headers = {"Retry-After": str(more.pop("retry"))} if "retry" in more else None
    body = {"type": "about:blank", "title": code, "status": status, "code": code, "detail": detail, **more}
    return JSONResponse(body, status, headers, media_type="application/problem+json")


@dataclass
class FakeJob:
    name: str
    size: int
    options: dict[str, Any]
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: float = field(default_factory=time.time)


@dataclass
class Fake:
    """What the answers depend on."""

    models: list[dict[str, Any]] = field(default_factory=lambda: [dict(MODEL)])
    chains: list[str] = field(default_factory=list)
    key: str | None = None
    queued_s: float = 0.1
    running_s: float = 0.6
    job_error: dict[str, Any] | None = None  # every job ends so
    refused: dict[str, Any] | None = None  # what QC says of every file
    lifted_by: list[str | None] = field(default_factory=list)  # the chain files of checks and jobs
    checked_for: list[str | None] = field(default_factory=list)  # the models that files were checked for
    files: int = 0  # that were sent
    page: int = 100  # maximum jobs of a page
    kept: dict[str, tuple[str, int]] = field(default_factory=dict)  # checked uploads: name and size
    trouble: dict[str, JSONResponse] = field(default_factory=dict)  # path prefix -> answer instead of its own
    jobs: dict[str, FakeJob] = field(default_factory=dict)

    def answer_of(self, job: FakeJob) -> dict[str, Any]:
        age = time.time() - job.created
        share = min(max((age - self.queued_s) / self.running_s, 0.0), 1.0)
        state = "queued" if share == 0 else "running" if share < 1 else "failed" if self.job_error else "done"
        moment = datetime.fromtimestamp(job.created, UTC).isoformat()
        return {
            "id": job.id, "name": job.name, "size": job.size, "state": state, "created": moment, "expires": moment,
            "model": MODEL, "options": job.options, "attempt": 1, "position": 2 if state == "queued" else None,
            "progress": {"done": int(share * 24990), "total": 24990, "share": share},
            "timings": {"queued_s": self.queued_s, "running_s": self.running_s},
            "qc": QC if state == "done" else None, "summary": SUMMARY if state == "done" else None,
            "error": self.job_error if state == "failed" else None,
        }  # fmt: skip


def create_fake(fake: Fake) -> FastAPI:
    app = FastAPI()
    app.include_router(page.router)

    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        path = request.url.path
        answer: Response | None = next((found for start, found in fake.trouble.items() if path.startswith(start)), None)
        known = request.headers.get("authorization") == f"Bearer {fake.key}"
        if path.startswith("/v1") and fake.key is not None and not known:
            answer = problem(401, "unauthorized", "a key is needed", hint="send it as Authorization: Bearer KEY")
        if answer is None:
            answer = await call_next(request)
        answer.headers["Content-Security-Policy"] = POLICY
        return answer

    @app.get("/readyz")
    async def readyz() -> Any:
        return {"status": "ready"} if fake.models else problem(503, "not_ready", "the model is being loaded")

    @app.get("/v1/models")
    async def models() -> Any:
        return {"models": fake.models, "unavailable": [], "chains": fake.chains}

    def unknown() -> JSONResponse:
        return problem(404, "upload_unknown", "there is no such upload", hint="send the file again")

    @app.post("/v1/qc")
    async def qc(
        file: UploadFile | None = None,
        upload: Annotated[str | None, Form()] = None,
        keep: Annotated[bool, Form()] = False,
        model: Annotated[str | None, Form()] = None,
        chain: Annotated[str | None, Form()] = None,
    ) -> Any:
        if upload is not None and upload not in fake.kept:
            return unknown()
        fake.checked_for.append(model)
        fake.lifted_by.append(chain)
        if file is not None:
            fake.files += 1
            upload = uuid.uuid4().hex
            found = (file.filename or "file", len(await file.read()))
            if keep and fake.refused is None:
                fake.kept[upload] = found
        if fake.refused is not None:
            return {"refused": fake.refused}
        lift = {"lifted": 520, "no_block": 12, "reverse_indel": 1} if chain else {}
        answer = {**QC, "lift": lift, "sites": [{**NOTE, "pos": 1000100 + i} for i in range(49)]}
        if upload in fake.kept:
            name, size = fake.kept[upload]
            answer["upload"] = {"id": upload, "name": name, "size": size, "expires": "2026-03-01T13:00:00Z"}
        return answer

    @app.delete("/v1/qc/{upload}", status_code=204, response_model=None)
    async def forget(upload: str) -> Response | None:
        return None if fake.kept.pop(upload, None) else unknown()

    @app.post("/v1/jobs", status_code=202)
    async def accept(
        file: UploadFile | None = None,
        upload: Annotated[str | None, Form()] = None,
        region: Annotated[str | None, Form()] = None,
        format: Annotated[str, Form()] = "vcf.gz",
        fields: Annotated[str, Form()] = "GT,DS,HDS,GP",
        min_dr2: Annotated[float, Form()] = 0.0,
        model: Annotated[str | None, Form()] = None,
        chain: Annotated[str | None, Form()] = None,
    ) -> Any:
        fake.lifted_by.append(chain)
        options = {"region": region, "format": format, "fields": fields.split(","), "min_dr2": min_dr2, "model": model}
        if file is not None:
            fake.files += 1
            found = (file.filename or "file", len(await file.read()))
        elif upload in fake.kept:
            found = fake.kept.pop(upload)
        else:
            return unknown()
        job = FakeJob(*found, options)
        fake.jobs[job.id] = job
        return fake.answer_of(job)

    @app.get("/v1/jobs")
    async def jobs(limit: int = 100, cursor: int = 0) -> Any:
        found = [fake.answer_of(job) for job in reversed(fake.jobs.values())]
        page, limit = found[cursor:], min(limit, fake.page)
        return {"jobs": page[:limit], "next": str(cursor + limit) if len(page) > limit else None}

    @app.get("/v1/jobs/{job_id}")
    async def job(job_id: str) -> Any:
        if job_id not in fake.jobs:
            return problem(404, "job_unknown", "there is no such job of yours")
        return fake.answer_of(fake.jobs[job_id])

    @app.delete("/v1/jobs/{job_id}", status_code=204)
    async def delete(job_id: str) -> None:
        fake.jobs.pop(job_id, None)

    @app.get("/v1/jobs/{job_id}/{part:path}")
    async def file_of(job_id: str, part: str) -> Response:
        return Response(f"{part} of {hashlib.sha256(job_id.encode()).hexdigest()}\n{QC_OF_SITES}")

    return app


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(create_fake(Fake(queued_s=2, running_s=15)), port=8011)
