"""Pages of jobs over HTTP, and the memory that they take."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from service.jobs.table import connect, jobs, transaction
from tests.service.routes.test_jobs import Service, code, running

MODEL = {"alias": "default", "reference": "models:/stub/1", "version": "1", "variant": "v19", "digest": "1" * 64}
QC = {"n_samples": 1, "density": [{"chrom": "20", "start": i, "stop": i + 1, "typed": 5} for i in range(100)]}


def add_jobs(folder: Path, n: int) -> None:
    """Done jobs of the key of ann, one a second."""
    common = {
        "caller": "ann", "state": "done", "name": "mine.vcf.gz", "size": 9, "options": {"format": "bcf"},
        "model": MODEL, "started": 1.0, "finished": 2.0, "expires": 9e9, "attempt": 1, "done": 1, "total": 1, "qc": QC,
        "summary": QC,
    }  # fmt: skip
    rows = [{**common, "id": f"{number:032x}", "created": 1000.0 + number} for number in range(n)]
    engine = connect("", folder)
    with transaction(engine, writes=True) as connection:
        connection.execute(insert(jobs), rows)
    engine.dispose()


def listed(service: Service, **parameters: Any) -> Any:
    answer = service.client.get("/v1/jobs", params=parameters, headers={"X-API-Key": "ann's key"})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("limit", [1, 3, 7, 500])
def test_pages_hold_every_job_once(tmp_path: Path, limit: int) -> None:
    add_jobs(tmp_path, 7)
    found, sizes, cursor = [], [], {}
    with running(tmp_path) as service:
        while True:
            page = listed(service, limit=limit, **cursor)
            found += [int(job["id"], 16) for job in page["jobs"]]
            sizes.append(len(page["jobs"]))
            if page["next"] is None:
                break
            cursor = {"cursor": page["next"]}
    assert found == [6, 5, 4, 3, 2, 1, 0]
    assert set(sizes[:-1]) <= {limit}
    assert 0 < sizes[-1] <= limit


def test_page_has_100_jobs_unless_another_number_is_asked_for(tmp_path: Path) -> None:
    add_jobs(tmp_path, 101)
    with running(tmp_path) as service:
        assert len(listed(service)["jobs"]) == 100


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=501", "limit=x", "cursor=", "cursor=1-2", "cursor=%00", "cursor=nan-1"]
)
def test_invalid_page_is_refused(tmp_path: Path, query: str) -> None:
    with running(tmp_path) as service:
        status, found = code(service.get(f"/v1/jobs?{query}"))
        assert (status, found) == (422, "request_invalid" if query.startswith("limit") else "cursor_invalid")


def peak_of_a_page(folder: Path, n: int) -> int:
    """Bytes of Python objects that one request for jobs takes at most."""
    add_jobs(folder, n)
    with running(folder) as service:
        assert len(listed(service)["jobs"]) == 100
        tracemalloc.start()
        try:
            listed(service)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    return peak


def test_memory_of_a_page_does_not_grow_with_the_number_of_jobs(tmp_path: Path) -> None:
    assert peak_of_a_page(tmp_path / "many", 5000) < 1.5 * peak_of_a_page(tmp_path / "few", 200)
