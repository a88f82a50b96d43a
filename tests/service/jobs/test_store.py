from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from service.jobs.job import (
    CANCELLED,
    DONE,
    EXPIRED,
    FAILED,
    QUEUED,
    RUNNING,
    Claim,
    Job,
    PinnedModel,
    is_gone,
    new_id,
    new_worker,
)
from service.jobs.store import FORGET_SECONDS, MAX_ATTEMPTS, JobTable, QueueFullError
from service.jobs.table import FORMAT_VERSION, connect, format_row, metadata, transaction
from tests.helpers.postgres import binaries, private_postgres
from vcfbert.errors import ArtifactError, InputError, ResourceError
from vcfbert.tracking.registry import RegisteredVersion

MODEL = PinnedModel("default", "v19", RegisteredVersion("vcfbert", 3, "ab" * 32))
ERROR = {"code": "unphased", "detail": "not phased", "where": None, "hint": "phase it"}
ELSEWHERE = "another-host/17/4711/beef"  # a worker that only its heartbeat tells of


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    if binaries() is None:
        pytest.skip("PostgreSQL is not installed")
    pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
    with private_postgres() as server:
        yield server.url.replace("postgresql://", "postgresql+psycopg://")


@pytest.fixture(params=["sqlite", "postgresql"])
def table(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[JobTable]:
    engine = connect("" if request.param == "sqlite" else request.getfixturevalue("server"), tmp_path)
    yield open_table(engine, clock)
    if request.param == "postgresql":
        metadata.drop_all(engine)
    engine.dispose()


def open_table(engine: Any, clock: Any, *, per_caller: int = 3, limit: int = 3) -> JobTable:
    return JobTable(
        engine, queue_limit=limit, queued_per_caller=per_caller, result_seconds=100.0, stale_seconds=30.0, clock=clock
    )


def accept(table: JobTable, caller: str = "ann") -> Job:
    return table.accept(new_id(), caller=caller, name="mine.vcf", size=12, options={"region": None}, model=MODEL)


def claimed(table: JobTable, job: Job, worker: str = ELSEWHERE) -> Claim:
    taken = table.claim(job.id, worker)
    assert taken is not None
    return taken[0]


def state(table: JobTable, job: Job) -> str:
    return table.get(job.caller, job.id).state


def test_job_passes_from_queued_to_done_and_expires(table: JobTable, clock: Clock) -> None:
    job = accept(table)
    assert (job.state, job.model, job.options, job.created) == (QUEUED, MODEL, {"region": None}, clock.now)
    clock.now += 5
    claim = claimed(table, job)
    assert table.heartbeat(claim, done=10, total=40, qc={"n_used": 4})
    running = table.get("ann", job.id)
    assert (running.state, running.started, running.done, running.total) == (RUNNING, clock.now, 10, 40)
    assert (running.qc, running.attempt) == ({"n_used": 4}, 1)
    clock.now += 7
    assert table.finish(claim, qc={"n_used": 4}, summary={"n_sites": 40})
    done = table.get("ann", job.id)
    assert (done.state, done.finished, done.expires, done.done) == (DONE, clock.now, clock.now + 100, 40)
    assert done.summary == {"n_sites": 40}
    clock.now += 99
    assert table.expire() == []
    clock.now += 1
    assert table.expire() == [job.id]
    assert table.expire() == []
    assert state(table, job) == EXPIRED
    assert table.without_files([job.id, "never"]) == {job.id, "never"}
    clock.now += FORGET_SECONDS
    table.expire()
    with pytest.raises(InputError, match="no such job"):
        table.get("ann", job.id)


def test_failed_job_keeps_its_error_after_it_expires(table: JobTable, clock: Clock) -> None:
    job = accept(table)
    assert table.fail(claimed(table, job), ERROR, qc={"n_used": 0})
    assert (table.get("ann", job.id).state, table.get("ann", job.id).error) == (FAILED, ERROR)
    assert table.without_files([job.id]) == set()
    clock.now += 100
    assert table.expire() == [job.id]
    assert table.get("ann", job.id).error == ERROR


def test_full_queue_is_refused_with_retry_after(table: JobTable, clock: Clock) -> None:
    first, *_ = [accept(table) for _ in range(3)]
    with pytest.raises(QueueFullError) as refused:
        accept(table, "bob")
    assert (refused.value.code, refused.value.retry_after) == ("queue_full", 30)
    with pytest.raises(QueueFullError):
        table.check_room("ann")
    claim = claimed(table, first)
    table.check_room("ann")
    accept(table)
    clock.now += 200
    table.finish(claim, qc={}, summary={})
    with pytest.raises(QueueFullError) as refused:
        accept(table)
    assert refused.value.retry_after == 200


def test_caller_with_maximum_queued_jobs_is_refused_and_others_are_not(tmp_path: Path, clock: Clock) -> None:
    table = open_table(connect("", tmp_path), clock, per_caller=2)
    for _ in range(2):
        accept(table)
    for refuses in (lambda: accept(table), lambda: table.check_room("ann")):
        with pytest.raises(QueueFullError, match="2 of your jobs are queued"):
            refuses()
    table.check_room("bob")
    accept(table, "bob")
    with pytest.raises(QueueFullError, match="3 jobs are queued"):
        accept(table, "cid")
    table.close()


def test_queue_limit_holds_for_concurrent_submissions(table: JobTable) -> None:
    refused: list[QueueFullError] = []

    def come() -> None:
        try:
            accept(table)
        except QueueFullError as error:
            refused.append(error)

    threads = [threading.Thread(target=come) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (table.counts()[QUEUED], len(refused)) == (3, 9)


def test_one_of_many_workers_claims_the_job(table: JobTable) -> None:
    job = accept(table)
    start = threading.Barrier(8)
    taken: list[object] = []

    def compete(number: int) -> None:
        start.wait()
        taken.append(table.claim(job.id, f"host/1/1/{number}"))

    threads = [threading.Thread(target=compete, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 8
    assert sum(each is not None for each in taken) == 1
    assert table.get("ann", job.id).attempt == 1


def test_job_of_another_caller_is_unknown(table: JobTable) -> None:
    job = accept(table, "ann")
    for ask in (table.get, table.remove):
        with pytest.raises(InputError) as unknown:
            ask("bob", job.id)
        assert unknown.value.code == "job_unknown"
    assert table.page("bob", 10) == []
    assert [each.id for each in table.page("ann", 10)] == [job.id]
    assert state(table, job) == QUEUED


def test_jobs_are_listed_newest_first_with_their_position(table: JobTable, clock: Clock) -> None:
    jobs = []
    for caller in ("ann", "bob", "ann"):
        jobs.append(accept(table, caller))
        clock.now += 1
    assert [job.id for job in table.page("ann", 10)] == [jobs[2].id, jobs[0].id]
    assert [table.position(job) for job in jobs] == [1, 2, 3]
    claimed(table, jobs[0])
    assert table.position(table.get("ann", jobs[0].id)) is None
    assert table.position(jobs[2]) == 2
    assert table.waiting() == [jobs[1].id, jobs[2].id]


def test_callers_take_turns(table: JobTable, clock: Clock) -> None:
    """Here a table without limits: ann has queued four jobs before bob and eve queue one each."""
    many = open_table(table._engine, clock, per_caller=9, limit=9)
    named = {}
    for number, caller in enumerate(("ann", "ann", "ann", "ann", "bob", "eve")):
        job = accept(many, caller)
        named[job.id] = f"{caller}{number}"
        clock.now += 1
    assert [many.position(many.get(name[:3], job_id)) for job_id, name in named.items()] == [1, 4, 5, 6, 2, 3]
    order = []
    while (taken := many.claim_next(ELSEWHERE)) is not None:
        claim, job = taken
        order.append(named[job.id])
        clock.now += 1
        many.finish(claim, qc={}, summary={})
    assert order == ["ann0", "bob4", "eve5", "ann1", "ann2", "ann3"]


def test_caller_with_a_running_job_waits_for_others(table: JobTable, clock: Clock) -> None:
    jobs = []
    for caller in ("ann", "ann", "bob"):
        jobs.append(accept(table, caller))
        clock.now += 1
    taken = [table.claim_next(ELSEWHERE) for _ in range(4)]
    assert [one and one[1].id for one in taken] == [jobs[0].id, jobs[2].id, jobs[1].id, None]


def test_pages_are_stable_while_jobs_come_and_go(table: JobTable, clock: Clock) -> None:
    """Also among jobs of the same moment, which their ids order."""
    ordered = []
    for _ in range(4):
        job = accept(table)
        ordered.append((clock.now, job.id))
        claimed(table, job)
        clock.now += len(ordered) % 2
    ids = [job_id for _, job_id in sorted(ordered, reverse=True)]
    first = table.page("ann", 2)
    assert [job.id for job in first] == ids[:2]
    accept(table)
    table.remove("ann", ids[1])
    assert [job.id for job in table.page("ann", 9, (first[-1].created, first[-1].id))] == ids[2:]
    assert table.page("bob", 9, (first[0].created, first[0].id)) == []


def test_expired_job_keeps_no_report(table: JobTable, clock: Clock) -> None:
    job = accept(table)
    table.finish(claimed(table, job), qc={"n_used": 3}, summary={"n_sites": 5})
    assert table.page("ann", 1)[0].qc is None
    assert table.get("ann", job.id).qc == {"n_used": 3}
    clock.now += 101
    assert table.expire() == [job.id]
    assert (table.get("ann", job.id).qc, table.get("ann", job.id).summary) == (None, None)


def test_queued_job_that_is_cancelled_cannot_be_claimed(table: JobTable) -> None:
    job = accept(table)
    table.remove("ann", job.id)
    assert state(table, job) == CANCELLED
    assert table.claim(job.id, ELSEWHERE) is None
    assert table.waiting() == []


def test_cancelling_a_running_job_takes_its_claim(table: JobTable) -> None:
    job = accept(table)
    claim = claimed(table, job)
    table.remove("ann", job.id)
    assert state(table, job) == CANCELLED
    assert not table.heartbeat(claim, done=1, total=2)
    assert not table.finish(claim, qc={}, summary={})
    assert not table.fail(claim, ERROR)
    assert not table.release(claim)
    assert state(table, job) == CANCELLED


@pytest.mark.parametrize("end", [DONE, FAILED, CANCELLED, EXPIRED])
def test_removing_an_ended_job_deletes_its_row(table: JobTable, clock: Clock, end: str) -> None:
    job = accept(table)
    if end == CANCELLED:
        table.remove("ann", job.id)
    elif end == FAILED:
        table.fail(claimed(table, job), ERROR)
    else:
        table.finish(claimed(table, job), qc={}, summary={})
    if end == EXPIRED:
        clock.now += 100
        table.expire()
    assert state(table, job) == end
    table.remove("ann", job.id)
    assert table.page("ann", 10) == []
    assert table.without_files([job.id]) == {job.id}


def test_worker_without_heartbeat_loses_its_job(table: JobTable, clock: Clock) -> None:
    job = accept(table)
    claim = claimed(table, job)
    clock.now += 20
    assert table.heartbeat(claim, done=1, total=2)
    clock.now += 30
    assert table.recover() == []
    clock.now += 1
    assert [each.id for each in table.recover()] == [job.id]
    assert state(table, job) == QUEUED
    again = claimed(table, job, "third/1/1/x")
    assert again.attempt == 2
    assert not table.finish(claim, qc={}, summary={})  # the first one comes back too late
    assert table.finish(again, qc={}, summary={})


def test_job_that_kills_its_workers_fails_after_max_attempts(table: JobTable, clock: Clock) -> None:
    job = accept(table)
    for _ in range(MAX_ATTEMPTS):
        assert state(table, job) == QUEUED
        claimed(table, job)
        clock.now += 31
        assert len(table.recover()) == 1
    failed = table.get("ann", job.id)
    assert failed.state == FAILED
    assert failed.error is not None
    assert failed.error["code"] == "worker_died"


def test_released_job_does_not_count_the_attempt(table: JobTable) -> None:
    job = accept(table)
    for _ in range(MAX_ATTEMPTS + 1):
        claim = claimed(table, job)
        assert claim.attempt == 1
        assert table.release(claim)
    assert table.recover() == []
    assert state(table, job) == QUEUED


def test_ended_worker_process_of_this_host_is_known_at_once(table: JobTable) -> None:
    mine = new_worker()
    assert not is_gone(mine)
    code = "from service.jobs.job import new_worker; print(new_worker())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert is_gone(other)
    host, pid, started, token = mine.rsplit("/", 3)
    assert is_gone(f"{host}/{pid}/{int(started) - 1}/{token}")  # the number was given to a later process
    assert not is_gone(ELSEWHERE)
    jobs = [accept(table) for _ in range(2)]
    claimed(table, jobs[0], mine)
    claimed(table, jobs[1], other)
    assert [job.id for job in table.recover()] == [jobs[1].id]


def test_zombie_process_counts_as_ended() -> None:
    code = "from service.jobs.job import new_worker; print(new_worker(), flush=True)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as ended:
        assert ended.stdout is not None
        worker = ended.stdout.readline().strip()
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        assert is_gone(worker)


def test_job_can_be_withdrawn_until_a_worker_claims_it(table: JobTable) -> None:
    job, other = accept(table), accept(table)
    claimed(table, other)
    assert table.withdraw(job.id)
    assert not table.withdraw(other.id)
    assert [each.id for each in table.page("ann", 10)] == [other.id]


def test_concurrent_processes_create_the_tables_once(tmp_path: Path, server: str) -> None:
    for url in ("", server):
        engines, errors = [], []

        def start(url: str = url, engines: list[Any] = engines, errors: list[Exception] = errors) -> None:
            try:
                engines.append(connect(url, tmp_path))
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=start) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        with transaction(engines[0]) as connection:
            assert connection.execute(select(format_row.c.version)).all() == [(FORMAT_VERSION,)]
        if url:
            metadata.drop_all(engines[0])
        for engine in engines:
            engine.dispose()


def test_rows_persist_and_another_format_is_refused(tmp_path: Path, clock: Clock) -> None:
    engine = connect("", tmp_path)
    job = accept(open_table(engine, clock))
    engine.dispose()
    engine = connect("", tmp_path)
    assert open_table(engine, clock).get("ann", job.id) == job
    with transaction(engine, writes=True) as connection:
        connection.execute(update(format_row).values(version=99))
    engine.dispose()
    with pytest.raises(ArtifactError, match="format 99"):
        connect("", tmp_path)


def test_error_of_an_unreachable_table_shows_no_password() -> None:
    with pytest.raises(ResourceError) as failed:
        connect("sqlite:////proc/none/secret/jobs.sqlite", Path("/nowhere"))
    assert failed.value.code == "jobs_unreachable"
    assert "secret" not in str(failed.value)
