"""A PostgreSQL or Redis that is stopped (SIGSTOP): it accepts connections and answers nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from service.app import create_app
from service.jobs.queue import JobQueue
from service.jobs.watch import BackendWatch
from tests.helpers.postgres import Postgres, binaries, private_postgres
from tests.helpers.service import StubSource, settings, upload, with_client
from tests.service.jobs.test_processes import redis_server
from vcfbert.errors import ResourceError

SECONDS = 0.5  # of VCFBERT_BACKEND_SECONDS
LIMIT = 12 * SECONDS + 5  # connecting takes at least 2 seconds, and a busy machine is slow


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    if binaries() is None:
        pytest.skip("PostgreSQL is not installed")
    pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
    with private_postgres() as server:
        yield server


@contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    """Within the block none of these processes runs."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def served(
    folder: Path, server: Postgres, monkeypatch: pytest.MonkeyPatch, use: Callable[[httpx.AsyncClient], Awaitable[Any]]
) -> Any:
    monkeypatch.setattr("service.jobs.watch.PERIOD_SECONDS", 0.2)
    url = server.url.replace("postgresql://", "postgresql+psycopg://")
    chosen = settings(folder, database_url=url, backend_seconds=SECONDS, concurrent_per_key=200)
    return with_client(create_app(chosen, StubSource()), use)


def test_hung_database_is_named_and_holds_no_other_route(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def use(client: httpx.AsyncClient) -> None:
        assert (await client.get("/readyz")).json() == {"status": "ready", "stale": False}
        with stopped(postgres.processes()):
            lists = [asyncio.ensure_future(client.get("/v1/jobs")) for _ in range(40)]
            scrapes = [asyncio.ensure_future(client.get("/metrics")) for _ in range(45)]
            method, path, arguments = upload(b"##fileformat=VCFv4.2\n#CHROM\n", path="/v1/impute")
            while "sick" not in (ready := (await client.get("/readyz")).json()):
                await asyncio.sleep(0.05)
            assert ready["sick"] == {"jobs": "jobs_unreachable"}
            assert (await client.request(method, path, **arguments)).status_code in (200, 422)
            for answer in await asyncio.wait_for(asyncio.gather(*lists), 4 * LIMIT):
                assert answer.status_code == 503
                assert answer.json()["code"] in ("jobs_unreachable", "busy")
            for answer in await asyncio.wait_for(asyncio.gather(*scrapes), LIMIT):
                assert answer.status_code == 200
            scraped = (await client.get("/metrics")).text
            assert 'vcfbert_sick{backend="jobs"} 1.0' in scraped
            assert "vcfbert_jobs{" not in scraped
        while "sick" in (await client.get("/readyz")).json():
            await asyncio.sleep(0.05)
        assert (await client.get("/v1/jobs")).json() == {"jobs": [], "next": None}

    served(tmp_path, postgres, monkeypatch, use)


def test_statement_and_connection_have_a_time_limit(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def use(client: httpx.AsyncClient) -> list[tuple[float, int]]:
        found = []
        await client.get("/v1/jobs")  # leaves a connection in the pool
        with stopped(postgres.processes()):
            for _ in range(2):  # of the old connection, and without one
                started = time.monotonic()
                answer = await client.get("/v1/jobs")
                found.append((time.monotonic() - started, answer.status_code))
        return found

    for seconds, status in served(tmp_path, postgres, monkeypatch, use):
        assert status == 503
        assert seconds < LIMIT


def test_hung_redis_is_given_up_and_answers_later(tmp_path: Path) -> None:
    with redis_server(tmp_path) as url:
        queue = JobQueue(url, tmp_path, seconds=SECONDS)
        queue.enqueue("a")
        with redis.Redis.from_url(url) as connection:
            pid = int(connection.info("server")["process_id"])
        with stopped([pid]):
            started = time.monotonic()
            with pytest.raises(ResourceError) as caught:
                queue.enqueue("b")
            assert caught.value.code == "queue_unreachable"
            assert time.monotonic() - started < LIMIT
        assert "a" in queue.waiting()


def test_watch_names_what_does_not_answer_until_it_does() -> None:
    errors = [None, ResourceError("jobs_unreachable", "no"), None]

    def check() -> None:
        error = errors.pop(0)
        if error is not None:
            raise error

    watch = BackendWatch({"jobs": check})
    found = []
    for _ in range(3):
        watch.ask("jobs", check)
        found.append(dict(watch.sick))
    assert found == [{}, {"jobs": "jobs_unreachable"}, {}]
