"""Jobs of unusable files, run by a real worker. They fail with code, place and hint, and with a QC report if the file
could be read."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from service.jobs.files import JobFiles
from service.jobs.job import new_worker
from service.jobs.run import JobRunner, LoadedModels
from service.jobs.store import open_table
from service.models.bundles import BundleSource
from service.uploads.files import check_upload
from tests.helpers.bad_targets import SPOILT, TARGET_CASES, WITH_REPORT
from tests.helpers.command_line import TinyFiles
from tests.helpers.refusals import edited
from tests.helpers.service import real_app, with_client


@pytest.fixture
def app(tiny_files: TinyFiles, tmp_path: Path) -> FastAPI:
    return real_app(tmp_path, tiny_files.bundle)


def failed_job(app: FastAPI, content: bytes) -> tuple[dict[str, Any], dict[str, httpx.Response]]:
    """The job of a file after a worker ran it, and the answers of its links and /qc."""
    settings = app.state.settings
    table = open_table(settings)
    runner = JobRunner(
        table,
        JobFiles(settings.data),
        LoadedModels(BundleSource(settings)),
        worker=new_worker(),
        max_seconds=60.0,
        stale_seconds=30.0,
        parsers=app.state.parsers,
        chains={},
        check_upload=lambda target, parser, check: check_upload(target, settings, parser, check),
        observe=lambda *told: None,
        end_process=lambda: None,
    )

    async def use(client: httpx.AsyncClient) -> tuple[dict[str, Any], dict[str, httpx.Response]]:
        accepted = await client.post("/v1/jobs", files={"file": ("theirs.vcf.gz", io.BytesIO(content))})
        assert accepted.status_code == 202, accepted.text
        runner.run(accepted.json()["id"])
        job = (await client.get(accepted.headers["location"])).json()
        parts = ("result", "result/index", "report", "qc", "qc/sites")
        return job, {part: await client.get(f"{accepted.headers['location']}/{part}") for part in parts}

    try:
        return with_client(app, use)
    finally:
        table.close()


def assert_failed(job: dict[str, Any], answers: dict[str, httpx.Response], code: str) -> str:
    """Returns the error's text."""
    assert job["state"] == "failed"
    error = job["error"]
    assert re.fullmatch(code, error["code"])
    assert error["hint"]
    for part in ("result", "result/index", "report"):
        assert (answers[part].status_code, answers[part].json()["code"]) == (409, "not_done")
        assert job["links"][part.rpartition("/")[2]] is None
    return " ".join(filter(None, error.values()))


@pytest.mark.parametrize("case", TARGET_CASES)
def test_unusable_target_fails_the_job_with_its_code(
    app: FastAPI, tiny_files: TinyFiles, tmp_path: Path, case: str
) -> None:
    edit, header, code, parts = TARGET_CASES[case]
    target = edited(tiny_files.target, tmp_path / "target.vcf.gz", edit, header=header)
    job, answers = failed_job(app, target.read_bytes())
    text = assert_failed(job, answers, code)
    assert all(part in text for part in parts)
    assert str(tmp_path) not in text
    if case in WITH_REPORT:
        assert job["qc"]["n_samples"] == 6
        assert answers["qc"].json() == job["qc"]
        assert answers["qc/sites"].text.startswith("chrom\tpos\t")
    else:
        assert job["qc"] is None
        assert answers["qc"].status_code == 409


@pytest.mark.parametrize(("spoil", "code", "part"), SPOILT)
def test_incomplete_vcf_fails_the_job_with_its_code(
    app: FastAPI, tiny_files: TinyFiles, tmp_path: Path, spoil: Callable[[Path, bytes], None], code: str, part: str
) -> None:
    spoil(tmp_path / "bad", tiny_files.target.read_bytes())
    text = assert_failed(*failed_job(app, (tmp_path / "bad").read_bytes()), code)
    assert re.search(part, text)
    assert "theirs.vcf.gz" in text
