from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import httpx
import pytest
import redis

from service.app import create_app
from service.http import limits
from service.http.limits import CallerLimits, LimitedError, RequestRate
from service.settings import Settings
from tests.helpers.service import API_KEYS, StubSource, bearer, settings, with_client
from tests.service.jobs.test_processes import free_port, redis_server


async def admitted(rate: RequestRate, caller: str, n: int) -> int:
    """The number of the caller's ``n`` requests that are within the limit."""
    count = 0
    for _ in range(n):
        try:
            await rate.count(caller)
            count += 1
        except LimitedError:
            pass
    return count


def test_rate_counts_each_caller_and_admits_again_after_retry_after(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_800_000_010.0  # 10 seconds after a window of the counter began
    monkeypatch.setattr(time, "time", lambda: now)

    async def run() -> None:
        nonlocal now
        rate = RequestRate(60)
        assert await admitted(rate, "ann", 60) == 60
        with pytest.raises(LimitedError) as caught:
            await rate.count("ann")
        assert caught.value.code == "rate_limited"
        assert caught.value.retry_after == pytest.approx(50.0)
        assert await admitted(rate, "bob", 1) == 1
        now += caught.value.retry_after + 1.0
        assert await admitted(rate, "ann", 2) == 1
        now += 10.5
        assert await admitted(rate, "ann", 20) == 11  # one a second, as the earlier minute fades

    asyncio.run(run())


def test_rate_with_redis_is_shared_by_processes(tmp_path: Path) -> None:
    async def run(url: str) -> None:
        one, other = RequestRate(10, url), RequestRate(10, url)
        assert await admitted(one, "ann", 6) == 6
        assert await admitted(other, "ann", 6) == 4
        assert await admitted(other, "bob", 6) == 6
        with pytest.raises(LimitedError) as caught:
            await one.count("ann")
        assert 0 < caught.value.retry_after <= 60

    with redis_server(tmp_path) as url:
        asyncio.run(run(url))


def test_rate_without_redis_server_counts_in_this_process(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        rate = RequestRate(10, f"redis://127.0.0.1:{free_port()}/0")
        assert await admitted(rate, "ann", 12) == 10

    asyncio.run(run())
    assert [record.message for record in caplog.records if "Redis does not answer" in record.message] != []
    assert len(caplog.records) == 1  # Redis is not asked again for each request


@pytest.mark.parametrize(
    "url", ["redis://127.0.0.1", "redis://:secret@127.0.0.1/3", "rediss://127.0.0.1", "unix:///no"]
)
def test_redis_address_without_port_is_accepted(url: str) -> None:
    assert Settings(redis_url=url).redis_url == url
    RequestRate(10, url)


def test_redis_that_hangs_and_returns_delays_one_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(url: str) -> None:
        rate, pid = RequestRate(10, url), redis.Redis.from_url(url).info("server")["process_id"]
        assert await admitted(rate, "ann", 4) == 4
        os.kill(pid, signal.SIGSTOP)
        started = time.monotonic()
        assert await admitted(rate, "ann", 10) == 10  # counted in this process
        assert time.monotonic() - started < 5.0
        os.kill(pid, signal.SIGCONT)
        monkeypatch.setattr(limits, "_REDIS_PAUSE", 0.0)
        rate._shared_from = 0.0
        assert await admitted(rate, "ann", 12) <= 6  # counted in Redis again

    with redis_server(tmp_path) as url:
        asyncio.run(run(url))
    assert [record.message for record in caplog.records] == [
        "Redis does not answer (TimeoutError): this process counts requests in its own memory"
    ]


def test_running_requests_of_a_caller_are_limited_and_released_on_errors() -> None:
    async def run() -> None:
        limits = CallerLimits(600, 2)
        async with limits.admit("ann"), limits.admit("ann"):
            with pytest.raises(LimitedError) as caught:
                await limits.admit("ann").__aenter__()
            assert caught.value.code == "too_many_requests"
            async with limits.admit("bob"):
                pass
        with pytest.raises(ZeroDivisionError):
            async with limits.admit("ann"):
                raise ZeroDivisionError
        async with limits.admit("ann"), limits.admit("ann"):
            pass

    asyncio.run(run())


def test_caller_beyond_the_rate_is_answered_429_with_retry_after(tmp_path: Path) -> None:
    app = create_app(settings(tmp_path, api_keys=API_KEYS, rate_per_minute=2), StubSource())

    async def use(client: httpx.AsyncClient) -> list[httpx.Response]:
        first = [await client.get("/v1/models", headers=bearer("ann")) for _ in range(3)]
        other = await client.get("/v1/models", headers=bearer("bob"))
        return [*first, other, await client.get("/readyz")]

    answers = with_client(app, use)
    assert [answer.status_code for answer in answers] == [200, 200, 429, 200, 200]
    assert answers[2].json()["code"] == "rate_limited"
    assert 1 <= int(answers[2].headers["retry-after"]) <= 60


def test_concurrent_requests_beyond_the_limit_of_a_key_are_answered_429(tmp_path: Path) -> None:
    app = create_app(settings(tmp_path, api_keys=API_KEYS, concurrent_per_key=2), StubSource())

    @app.get("/v1/slow")
    async def slow() -> str:
        await asyncio.sleep(0.2)
        return "done"

    async def use(client: httpx.AsyncClient) -> list[httpx.Response]:
        mine = [client.get("/v1/slow", headers=bearer("ann")) for _ in range(3)]
        return list(await asyncio.gather(*mine, client.get("/v1/slow", headers=bearer("bob"))))

    answers = with_client(app, use)
    assert sorted(answer.status_code for answer in answers[:3]) == [200, 200, 429]
    assert answers[3].status_code == 200
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["code"] == "too_many_requests"
    assert refused.headers["retry-after"] == "1"
