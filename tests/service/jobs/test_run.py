"""Running jobs in this process, with a stub model."""

from __future__ import annotations

import io
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from service.jobs.attempt import GRACE_SECONDS
from service.jobs.files import JobFiles
from service.jobs.housekeeping import expire, recover
from service.jobs.job import CANCELLED, DONE, EXPIRED, FAILED, QUEUED, RUNNING, Job, PinnedModel, new_id, new_worker
from service.jobs.queue import JobQueue
from service.jobs.run import JobRunner, LoadedModels
from service.jobs.store import JobTable
from service.jobs.table import connect
from service.settings import Settings
from tests.helpers.service import NoParsers
from tests.helpers.stub_service import QC, SUMMARY, StubModel, StubSource, result_of
from vcfbert.artifacts import write_text
from vcfbert.errors import ArtifactError, InputError, ResourceError
from vcfbert.tracking.registry import RegisteredVersion

OPTIONS = {"region": None, "format": "vcf.gz", "fields": ["GT", "DS"], "min_dr2": 0.0}


@dataclass
class Bench:
    """A job table, job files and a runner on one data folder."""

    data: Path
    max_seconds: float = 60.0
    grace_seconds: float = GRACE_SECONDS
    stale_seconds: float = 0.5
    clock: Callable[[], float] = time.time
    check_upload: Callable[..., None] = lambda *_: None
    ended: threading.Event = field(default_factory=threading.Event)
    observed: list[tuple[object, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.engine = connect("", self.data)
        self.table = JobTable(
            self.engine,
            queue_limit=9,
            queued_per_caller=9,
            result_seconds=100.0,
            stale_seconds=self.stale_seconds,
            clock=self.clock,
        )
        self.files = JobFiles(self.data)
        self.source = StubSource(Settings(data=self.data))
        self.runner = self.new_runner()

    def new_runner(self) -> JobRunner:
        return JobRunner(
            self.table,
            self.files,
            LoadedModels(self.source),  # type: ignore[arg-type]
            worker=new_worker(),
            max_seconds=self.max_seconds,
            stale_seconds=self.stale_seconds,
            parsers=NoParsers(),
            chains={},
            check_upload=self.check_upload,
            observe=lambda *told: self.observed.append(told),
            end_process=self.ended.set,
            grace_seconds=self.grace_seconds,
        )

    def accept(self, upload: str, *, version: str = "1", **options: object) -> Job:
        job_id = new_id()
        size = self.files.store_upload(job_id, io.BytesIO(upload.encode()))
        model = PinnedModel("default", "v19", RegisteredVersion("stub", int(version), version * 64))
        return self.table.accept(
            job_id, caller="ann", name="mine.vcf", size=size, options=OPTIONS | options, model=model
        )

    def run(self, job: Job) -> Job:
        self.runner.run(job.id)
        return self.now(job)

    def now(self, job: Job) -> Job:
        return self.table.get("ann", job.id)

    def names(self, job: Job) -> set[str]:
        folder = self.files.of(job.id)
        return {path.name for path in folder.iterdir()} if folder.is_dir() else set()

    def start(self, job: Job) -> tuple[threading.Thread, StubModel]:
        """Starts the job in a thread. Returns the thread and the model, which is imputing."""
        before = len(self.source.models)
        thread = threading.Thread(target=self.runner.run, args=(job.id,))
        thread.start()
        wait_for(lambda: len(self.source.models) > before)
        model = self.source.models[-1]
        assert model.started.wait(10)
        return thread, model


def wait_for(condition: Callable[[], object], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not come"
        time.sleep(0.01)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.engine.dispose()


@pytest.mark.parametrize("extension", ["vcf.gz", "bcf"])
def test_finished_job_leaves_its_results_and_no_upload(bench: Bench, extension: str) -> None:
    job = bench.accept("steps 3 0", format=extension)
    done = bench.run(job)
    assert (done.state, done.qc, done.summary, done.done, done.total) == (DONE, QC, SUMMARY, 3, 3)
    index = {"vcf.gz": "tbi", "bcf": "csi"}[extension]
    assert bench.names(job) == {
        f"imputed.{extension}",
        f"imputed.{extension}.{index}",
        "qc.json",
        "qc.tsv",
        "report.json",
    }
    assert bench.files.result(job.id, extension).read_bytes() == result_of(b"steps 3 0", "1", extension)
    assert bench.files.index(job.id, extension).is_file()


def test_only_finished_jobs_are_observed(bench: Bench) -> None:
    for upload in ("steps 2 0.01", "bad", "crash"):
        bench.run(bench.accept(upload))
    cancelled = bench.accept("late", version="2")
    thread, _ = bench.start(cancelled)
    bench.table.remove("ann", cancelled.id)
    thread.join(5)
    ((model, n_targets, seconds),) = bench.observed
    assert (model, n_targets) == ("default", SUMMARY["n_samples"])
    assert isinstance(seconds, float)
    assert 0.02 < seconds < 10


def test_duplicate_message_does_nothing(bench: Bench) -> None:
    job = bench.accept("steps 1 0")
    done = bench.run(job)
    assert bench.run(job) == done
    bench.runner.run("unknown")
    assert (bench.data / "finished.log").read_text() == f"{job.id}\n"


def test_job_uses_the_version_live_at_submission(bench: Bench) -> None:
    for version in ("1", "2", "1", "3", "1", "2"):
        job = bench.accept("steps 1 0", version=version)
        assert bench.run(job).state == DONE
        assert bench.files.result(job.id, "vcf.gz").read_bytes() == result_of(b"steps 1 0", version, "vcf.gz")
    assert bench.source.loaded == ["1", "2", "3", "2"]  # the last two are kept


def test_refused_upload_is_named_by_its_own_name_and_keeps_the_qc_report(bench: Bench) -> None:
    job = bench.accept("bad")
    failed = bench.run(job)
    assert (failed.state, failed.qc) == (FAILED, QC)
    assert failed.error == {
        "code": "unphased", "detail": "mine.vcf is not phased", "where": "mine.vcf: line 3", "hint": "phase it",
    }  # fmt: skip
    assert bench.names(job) == {"qc.json", "qc.tsv"}


@pytest.mark.parametrize(
    ("upload", "code"), [("crash", "internal"), ("full", "disk_full"), ("memory", "out_of_memory")]
)
def test_other_failures_have_codes_and_show_no_internals(
    bench: Bench, upload: str, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        failed = bench.run(bench.accept(upload))
    assert failed.state == FAILED
    assert failed.error is not None
    assert failed.error["code"] == code
    assert str(bench.data) not in str(failed.error)
    assert "NA12878" not in str(failed.error)
    assert "NA12878" not in "".join(record.getMessage() for record in caplog.records)
    assert bench.run(bench.accept("steps 1 0")).state == DONE  # the worker goes on


def test_upload_that_fails_the_check_fails_the_job(tmp_path: Path) -> None:
    def refuse(path: Path, *_: object) -> None:
        raise InputError("too_many_samples", "9 samples", where=str(path))

    bench = Bench(tmp_path, check_upload=refuse)
    failed = bench.run(bench.accept("steps 1 0"))
    assert failed.error is not None
    assert (failed.error["code"], failed.error["where"]) == ("too_many_samples", "mine.vcf")


def test_job_over_its_time_limit_is_stopped(tmp_path: Path) -> None:
    bench = Bench(tmp_path, max_seconds=0.1)
    failed = bench.run(bench.accept("steps 100 0.02"))
    assert failed.error is not None
    assert (failed.state, failed.error["code"]) == (FAILED, "too_slow")
    assert not bench.ended.is_set()


def test_job_that_does_not_stop_ends_with_its_worker(tmp_path: Path) -> None:
    bench = Bench(tmp_path, max_seconds=0.1, grace_seconds=0.1, stale_seconds=0.25)
    job = bench.accept("steps 1 1")  # one long block
    thread, _ = bench.start(job)
    assert bench.ended.wait(5)
    assert bench.now(job).state == FAILED
    thread.join()
    failed = bench.now(job)
    assert failed.error is not None
    assert (failed.state, failed.error["code"]) == (FAILED, "too_slow")


@pytest.mark.parametrize("upload", ["steps 1000 0.01", "late"])
def test_running_job_that_is_cancelled_leaves_no_files(bench: Bench, upload: str) -> None:
    job = bench.accept(upload)
    thread, _ = bench.start(job)
    bench.table.remove("ann", job.id)
    thread.join(5)
    assert not thread.is_alive()
    assert bench.now(job).state == CANCELLED
    assert bench.names(job) == set()
    assert bench.run(bench.accept("steps 1 0")).state == DONE


def test_running_job_that_is_cancelled_and_deleted_leaves_no_files(bench: Bench) -> None:
    job = bench.accept("steps 1000 0.01")
    thread, _ = bench.start(job)
    bench.table.remove("ann", job.id)
    bench.table.remove("ann", job.id)
    thread.join(5)
    assert bench.names(job) == set()
    assert bench.table.page("ann", 10) == []


def test_running_job_shows_progress_and_qc(bench: Bench) -> None:
    job = bench.accept("steps 50 0.01")
    thread, _ = bench.start(job)
    wait_for(lambda: 0 < bench.now(job).done < 50)
    running = bench.now(job)
    assert (running.state, running.total, running.qc) == (RUNNING, 50, QC)
    thread.join()


def test_worker_that_lost_its_claim_leaves_the_job_unchanged(bench: Bench) -> None:
    job = bench.accept("late")
    thread, _ = bench.start(job)
    with bench.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE vcfbert_jobs SET worker = 'other-host/1/1/x', attempt = 2")
    thread.join(5)
    assert not thread.is_alive()
    assert bench.now(job).state == RUNNING
    assert bench.files.target(job.id).is_file()


def test_stopping_worker_requeues_its_job(bench: Bench) -> None:
    job = bench.accept("late")
    thread, _ = bench.start(job)
    bench.runner.stop(5)
    thread.join(5)
    back = bench.now(job)
    assert (back.state, back.attempt, back.started) == (QUEUED, 0, None)
    assert bench.names(job) == {"target"}
    assert bench.run(job).state == QUEUED  # it takes no more
    assert bench.table.waiting() == [job.id]


def test_stopping_worker_does_not_wait_for_a_long_block(bench: Bench) -> None:
    job = bench.accept("steps 1 0.6")
    thread, _ = bench.start(job)
    bench.runner.stop(0.05)
    assert bench.now(job).state == QUEUED
    thread.join()
    assert bench.now(job).state == QUEUED


def test_job_waits_for_a_registry_that_is_down(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(version: RegisteredVersion) -> StubModel:
        raise ResourceError("registry_unavailable", "it does not answer")

    job = bench.accept("steps 1 0")
    with monkeypatch.context() as patched:
        patched.setattr(bench.source, "load", load)
        assert bench.run(job).state == QUEUED
    assert bench.run(job).state == DONE


def test_leftovers_of_a_dead_attempt_are_replaced(bench: Bench) -> None:
    job = bench.accept("steps 1 0")
    write_text(bench.files.of(job.id) / ".attempt-1" / "imputed.vcf.gz", "half")
    bench.files.result(job.id, "vcf.gz").write_text("from an attempt that died before it said so")
    assert bench.run(job).state == DONE
    assert bench.files.result(job.id, "vcf.gz").read_bytes() == result_of(b"steps 1 0", "1", "vcf.gz")
    assert not [name for name in bench.names(job) if name.startswith(".")]


def test_lost_messages_are_sent_again(bench: Bench) -> None:
    job, other = bench.accept("steps 1 0"), bench.accept("steps 1 0")
    queue = JobQueue("", bench.data, bench.runner.run)
    queue.enqueue(other.id)
    recover(bench.table, queue)
    recover(bench.table, queue)
    assert queue.waiting() == {job.id, other.id}
    assert queue.huey.pending_count() == 2
    while (task := queue.huey.dequeue()) is not None:
        queue.huey.execute(task)
    assert [bench.now(each).state for each in (job, other)] == [DONE, DONE]
    recover(bench.table, queue)
    assert queue.waiting() == set()


def test_expired_jobs_and_leftovers_lose_their_files(tmp_path: Path) -> None:
    now = [time.time()]
    bench = Bench(tmp_path, clock=lambda: now[0])
    old = bench.accept("steps 1 0")
    bench.run(old)
    now[0] += 60
    new = bench.accept("steps 1 0")
    bench.run(new)
    cancelled = bench.accept("steps 1 0")
    bench.table.remove("ann", cancelled.id)
    bench.files.store_upload("orphan", io.BytesIO(b"cut off"))
    now[0] += 50
    expire(bench.table, bench.files)
    assert [bench.now(job).state for job in (old, new)] == [EXPIRED, DONE]
    assert bench.names(old) == set()
    assert "imputed.vcf.gz" in bench.names(new)
    assert bench.files.of("orphan").is_dir()  # its request may still be on the way
    for folder in bench.files.folder.iterdir():
        os.utime(folder, (0, 0))  # unchanged for hours
    expire(bench.table, bench.files)
    assert {path.name for path in bench.files.folder.iterdir()} == {new.id}


@pytest.mark.parametrize("method", ["heartbeat", "finish"])
def test_job_whose_table_does_not_answer_is_queued_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def fail(*arguments: object, **options: object) -> bool:
        raise ResourceError("jobs_unreachable", "the job table cannot be reached")

    job = bench.accept("steps 1 0")
    with monkeypatch.context() as patched:
        patched.setattr(bench.table, method, fail)
        assert bench.run(job).state == RUNNING
    assert bench.files.target(job.id).is_file()
    wait_for(lambda: [each.id for each in bench.table.recover()] == [job.id])
    assert bench.run(job).state == DONE
    assert bench.now(job).attempt == 2


@pytest.mark.parametrize("state", [DONE, FAILED])
def test_leftovers_of_a_worker_that_died_at_the_end_are_deleted(bench: Bench, state: str) -> None:
    job, queued = bench.accept("steps 1 0"), bench.accept("steps 1 0")
    taken = bench.table.claim(job.id, new_worker())
    assert taken is not None
    if state == DONE:
        bench.table.finish(taken[0], qc=QC, summary=SUMMARY)
    else:
        bench.table.fail(taken[0], {"code": "worker_died", "detail": "it died", "where": None, "hint": None})
    for each in (job, queued):
        write_text(bench.files.of(each.id) / ".attempt-1" / "imputed.vcf.gz", "half")
    bench.files.result(job.id, "vcf.gz").write_text("whole")
    expire(bench.table, bench.files)
    assert bench.names(job) == {"imputed.vcf.gz"}
    assert bench.names(queued) == {"target", ".attempt-1"}


def test_failure_of_the_installation_shows_no_path(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(version: object) -> StubModel:
        raise ArtifactError("bundle_hash", "not the bundle that was registered", where="/srv/models/x", hint="fetch it")

    monkeypatch.setattr(bench.source, "load", load)
    failed = bench.run(bench.accept("steps 1 0"))
    assert failed.error == {
        "code": "bundle_hash", "detail": "not the bundle that was registered", "where": None, "hint": "fetch it"
    }  # fmt: skip
