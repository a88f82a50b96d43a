"""Jobs over HTTP, with a worker in this process and a model that only pretends."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from service.app import create_app
from service.jobs.files import JobFiles
from service.jobs.housekeeping import expire
from service.jobs.job import new_worker
from service.jobs.queue import JobQueue
from service.jobs.run import JobRunner, LoadedModels
from service.jobs.store import JobTable
from service.settings import Settings
from tests.helpers.service import NoParsers
from tests.helpers.stub_service import QC, SUMMARY, StubSource, result_of
from tests.service.jobs.test_run import wait_for
from vcfbert.errors import ResourceError

ANN, BOB = {"X-API-Key": "ann's key"}, {"Authorization": "Bearer bob's key"}
KEYS = ",".join(f"{name}:{hashlib.sha256(f'{name}{chr(39)}s key'.encode()).hexdigest()}" for name in ("ann", "bob"))


class Service:
    """An application and a worker's runner on the same folder."""

    def __init__(self, client: TestClient, source: StubSource, settings: Settings) -> None:
        self.client = client
        self.source = source
        self.jobs = client.app.state.jobs  # type: ignore[attr-defined]
        self.table: JobTable = self.jobs.table
        self.files: JobFiles = self.jobs.files
        models = LoadedModels(source)  # type: ignore[arg-type]
        self.runner = JobRunner(
            self.table,
            self.files,
            models,
            worker=new_worker(),
            max_seconds=60.0,
            stale_seconds=30.0,
            parsers=NoParsers(),
            chains={},
            check_upload=lambda *_: None,
            observe=lambda *told: None,
            end_process=lambda: None,
        )
        self.queue = JobQueue(settings.redis_url, settings.data, self.runner.run)

    def work(self) -> None:
        """Runs every job that has a message."""
        while (task := self.queue.huey.dequeue()) is not None:
            self.queue.huey.execute(task)

    def send(self, upload: str = "steps 1 0", *, headers: Any = ANN, name: str = "mine.vcf.gz", **form: str) -> Any:
        return self.client.post("/v1/jobs", files={"file": (name, upload.encode())}, data=form, headers=headers)

    def get(self, path: str, *, headers: Any = ANN, **more: str) -> httpx.Response:
        return self.client.get(path, headers={**headers, **more})

    def sent(self, upload: str = "steps 1 0", **form: Any) -> str:
        answer = self.send(upload, **form)
        assert answer.status_code == 202, answer.text
        return str(answer.headers["location"])

    def done(self, **form: Any) -> str:
        path = self.sent(**form)
        self.work()
        assert self.get(path).json()["state"] == "done"
        return path


@contextmanager
def running(folder: Path, **settings: Any) -> Iterator[Service]:
    chosen = Settings(data=folder, embedded_worker=False, poll_seconds=0, **{"api_keys": KEYS, **settings})
    source = StubSource(chosen)
    app = create_app(chosen, source)  # type: ignore[arg-type]
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        wait_for(lambda: app.state.manager.not_ready is None)
        yield Service(client, source, chosen)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with running(tmp_path) as service:
        yield service


def code(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


def test_job_runs_from_upload_to_files(service: Service) -> None:
    answer = service.send(format="bcf", fields="GT,DS", region="20:1-900", min_dr2="0.3")
    assert answer.status_code == 202
    accepted = answer.json()
    path = answer.headers["location"]
    assert path == f"/v1/jobs/{accepted['id']}" == accepted["links"]["self"]
    assert (accepted["state"], accepted["position"], accepted["name"]) == ("queued", 1, "mine.vcf.gz")
    assert accepted["size"] == len("steps 1 0")
    assert accepted["options"] == {
        "region": "20:1-900",
        "format": "bcf",
        "fields": ["GT", "DS"],
        "min_dr2": 0.3,
        "strict": False,
        "chain": None,
    }
    assert accepted["model"] == {"alias": "default", "version": "1", "variant": "v19", "digest": "1" * 64}
    assert accepted["links"]["result"] is None
    service.work()
    done = service.get(path).json()
    assert (done["state"], done["qc"], done["summary"], done["position"]) == ("done", QC, SUMMARY, None)
    assert done["progress"] == {"done": 1, "total": 1, "share": 1.0}
    assert done["created"] <= done["started"] <= done["finished"] < done["expires"]
    assert done["timings"]["running_s"] >= 0
    links = done["links"]
    result = service.get(links["result"])
    assert result.content == result_of(b"steps 1 0", "1", "bcf")
    assert 'filename="mine.imputed.bcf"' in result.headers["content-disposition"]
    assert service.get(links["index"]).content == b"index"
    assert service.get(links["qc"]).json() == QC
    assert service.get(links["qc_sites"]).text.startswith("chrom\t")
    report = service.get(links["report"]).json()
    assert (report["qc"], report["summary"], report["id"]) == (QC, SUMMARY, done["id"])
    listed = service.get("/v1/jobs").json()
    assert listed["next"] is None
    (row,) = listed["jobs"]
    assert row == {name: done[name] for name in row}
    assert set(done) - set(row) == {"options", "position", "qc", "timings", "summary", "links"}


def test_job_options_in_the_query_are_used(service: Service) -> None:
    files = {"file": ("mine.vcf", b"steps 1 0")}
    answer = service.client.post("/v1/jobs?format=bcf&min_dr2=0.5", files=files, headers=ANN)
    assert (answer.json()["options"]["format"], answer.json()["options"]["min_dr2"]) == ("bcf", 0.5)


def test_result_supports_ranges_and_etags(service: Service) -> None:
    path = f"{service.done()}/result"
    whole = service.get(path)
    assert whole.headers["accept-ranges"] == "bytes"
    part = service.get(path, range="bytes=4-9")
    assert (part.status_code, part.content) == (206, whole.content[4:10])
    assert part.headers["content-range"] == f"bytes 4-9/{len(whole.content)}"
    rest = service.get(path, **{"range": "bytes=10-", "if-range": whole.headers["etag"]})
    assert (rest.status_code, rest.content) == (206, whole.content[10:])
    assert service.get(path, **{"range": "bytes=10-", "if-range": '"other"'}).status_code == 200
    assert service.get(path, range="bytes=999999-").status_code == 416


def test_unfinished_result_is_answered_409_and_expired_one_410(tmp_path: Path) -> None:
    with running(tmp_path, result_hours=1e-9) as service:
        path = service.sent()
        for part in ("result", "result/index", "qc", "qc/sites", "report"):
            assert code(service.get(f"{path}/{part}")) == (409, "not_done")
        service.work()
        expire(service.table, service.files)
        assert service.get(path).json()["state"] == "expired"
        for part in ("result", "result/index", "qc", "qc/sites", "report"):
            assert code(service.get(f"{path}/{part}")) == (410, "expired")


def test_result_deleted_while_requested_is_answered_410(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    path = service.done()
    is_file = Path.is_file

    def deleted_afterwards(asked: Path) -> bool:
        found = is_file(asked)
        if asked.name == "imputed.vcf.gz":
            asked.unlink()
        return found

    monkeypatch.setattr(Path, "is_file", deleted_afterwards)
    assert code(service.get(f"{path}/result")) == (410, "expired")


def test_failed_job_has_qc_and_no_result(service: Service) -> None:
    path = service.sent("bad", name="mine.vcf")
    service.work()
    failed = service.get(path).json()
    assert failed["state"] == "failed"
    assert failed["error"] == {
        "code": "unphased", "detail": "mine.vcf is not phased", "where": "mine.vcf: line 3", "hint": "phase it",
    }  # fmt: skip
    assert service.get(failed["links"]["qc"]).json() == QC
    assert service.get(failed["links"]["qc_sites"]).status_code == 200
    assert failed["links"]["result"] is None
    assert code(service.get(f"{path}/result")) == (409, "not_done")


def test_jobs_of_another_key_are_unknown(service: Service) -> None:
    path = service.done()
    for part in ("", "/result", "/result/index", "/qc", "/qc/sites", "/report"):
        assert code(service.get(path + part, headers=BOB)) == (404, "job_unknown")
    assert code(service.client.delete(path, headers=BOB)) == (404, "job_unknown")
    assert service.get("/v1/jobs", headers=BOB).json() == {"jobs": [], "next": None}
    assert service.get(f"{path}/result").status_code == 200
    assert code(service.get("/v1/jobs", headers={})) == (401, "unauthorized")


@pytest.mark.parametrize("job_id", ["0" * 32, "x", "..%2F..%2Fetc", "%00", "a" * 500])
def test_unknown_job_is_answered_404(service: Service, job_id: str) -> None:
    assert service.get(f"/v1/jobs/{job_id}").status_code == 404
    assert service.client.delete(f"/v1/jobs/{job_id}", headers=ANN).status_code == 404


def test_job_is_cancelled_and_then_deleted(service: Service) -> None:
    path = service.sent()
    assert service.client.delete(path, headers=ANN).status_code == 204
    cancelled = service.get(path).json()
    assert (cancelled["state"], cancelled["progress"]["share"]) == ("cancelled", 0.0)
    assert not service.files.of(cancelled["id"]).exists()
    service.work()
    assert service.get(path).json()["state"] == "cancelled"
    assert code(service.get(f"{path}/result")) == (409, "not_done")
    assert service.client.delete(path, headers=ANN).status_code == 204
    assert code(service.get(path)) == (404, "job_unknown")
    assert code(service.client.delete(path, headers=ANN)) == (404, "job_unknown")


def test_deleted_job_has_no_files(service: Service) -> None:
    path = service.done()
    folder = service.files.of(path.rpartition("/")[2])
    assert folder.is_dir()
    assert service.client.delete(path, headers=ANN).status_code == 204
    assert not folder.exists()
    assert service.get(path).status_code == 404


def test_full_queue_refuses_the_job_and_keeps_no_file(tmp_path: Path) -> None:
    with running(tmp_path, queue_limit=2) as service:
        first, _ = service.sent(), service.sent(headers=BOB)
        answer = service.send()
        assert code(answer) == (429, "queue_full")
        assert int(answer.headers["retry-after"]) >= 1
        assert len(list(service.files.folder.iterdir())) == 2
        assert service.client.delete(first, headers=ANN).status_code == 204
        assert service.send().status_code == 202


def test_job_is_stored_in_order_upload_row_message(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    accept, enqueue = JobTable.accept, JobQueue.enqueue

    def accepting(table: JobTable, job_id: str, **row: Any) -> Any:
        seen.append(("row", service.files.target(job_id).read_bytes()))
        return accept(table, job_id, **row)

    def enqueuing(queue: JobQueue, job_id: str) -> None:
        seen.append(("message", service.table.get("ann", job_id).state))
        enqueue(queue, job_id)

    monkeypatch.setattr(JobTable, "accept", accepting)
    monkeypatch.setattr(JobQueue, "enqueue", enqueuing)
    service.sent("steps 1 0")
    assert seen == [("row", b"steps 1 0"), ("message", "queued")]


def test_job_without_queue_is_refused_and_leaves_nothing(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def enqueue(queue: JobQueue, job_id: str) -> None:
        raise ResourceError("queue_unreachable", "it does not answer")

    monkeypatch.setattr(JobQueue, "enqueue", enqueue)
    answer = service.send()
    assert code(answer) == (503, "queue_unreachable")
    assert "retry-after" in answer.headers
    assert service.get("/v1/jobs").json() == {"jobs": [], "next": None}
    assert list(service.files.folder.iterdir()) == []


def test_job_without_table_is_answered_503(service: Service, tmp_path: Path) -> None:
    path = service.sent()
    with sqlite3.connect(tmp_path / "jobs.sqlite") as connection:
        connection.execute("ALTER TABLE vcfbert_jobs RENAME TO elsewhere")
    for answer in (service.get(path), service.get("/v1/jobs"), service.send()):
        assert code(answer) == (503, "jobs_unreachable")
    assert service.get("/metrics").status_code == 200


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({"model": "none"}, (404, "model_unknown")),
        ({"min_dr2": "much"}, (422, "option_min_dr2")),
        ({"min_dr2": "2"}, (422, "option_min_dr2")),
        ({"format": "vcf"}, (422, "option_format")),
        ({"fields": "GT,XX"}, (422, "option_fields")),
    ],
)
def test_job_with_invalid_options_is_refused_at_submission(
    service: Service, form: dict[str, str], expected: tuple[int, str]
) -> None:
    assert code(service.send(**form)) == expected
    assert not service.files.folder.exists()


def test_job_without_file_is_refused(service: Service) -> None:
    assert code(service.client.post("/v1/jobs", headers=ANN)) == (422, "request_invalid")
    assert code(service.client.post("/v1/jobs", content=b"x", headers=ANN)) == (422, "request_invalid")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\data\\mine.vcf", "mine.vcf"),
        ("..", ".."),
        ("x" * 900, "x" * 200),
        ("größe.vcf", "größe.vcf"),
    ],
)
def test_job_shows_the_file_name_without_path(service: Service, name: str, shown: str) -> None:
    path = service.done(name=name)
    assert service.get(path).json()["name"] == shown
    assert service.get(f"{path}/result").status_code == 200
    assert {folder.name for folder in service.files.folder.iterdir()} == {path.rpartition("/")[2]}


def test_job_keeps_the_model_version_of_its_submission(service: Service) -> None:
    before = service.sent()
    service.source.version = "2"
    service.client.app.state.manager.reload()  # type: ignore[attr-defined]
    after = service.sent()
    service.work()
    assert [service.get(path).json()["model"]["version"] for path in (before, after)] == ["1", "2"]
    results = [service.get(f"{path}/result").content for path in (before, after)]
    assert results == [result_of(b"steps 1 0", version, "vcf.gz") for version in ("1", "2")]


def test_metrics_count_jobs_by_state(service: Service) -> None:
    service.done()
    service.sent()
    text = service.get("/metrics").text
    assert 'vcfbert_jobs{state="done"} 1.0' in text
    assert 'vcfbert_jobs{state="queued"} 1.0' in text
