from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import httpx
import pytest

from service.app import create_app
from service.http.limits import CallerLimits, LimitedError
from service.models.fifo_semaphore import FifoSemaphore
from tests.helpers.service import API_KEYS, StubSource, bearer, settings, with_client


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_minutes_worth_may_be_sent_at_once_and_fills_evenly() -> None:
    clock = Clock()
    limits = CallerLimits(60, 5, clock)
    for _ in range(60):
        with limits.admit("ann"):
            pass
    with pytest.raises(LimitedError) as caught, limits.admit("ann"):
        pass
    assert caught.value.code == "rate_limited"
    assert caught.value.retry_after == pytest.approx(1.0)
    with limits.admit("bob"):
        pass
    clock.now += 1.0
    with limits.admit("ann"):
        pass
    with pytest.raises(LimitedError), limits.admit("ann"):
        pass


def test_a_request_counts_until_it_is_answered_also_when_it_fails() -> None:
    limits = CallerLimits(600, 2)
    with limits.admit("ann"), limits.admit("ann"):
        with pytest.raises(LimitedError) as caught, limits.admit("ann"):
            pass
        assert caught.value.code == "too_many_requests"
        with limits.admit("bob"):
            pass
    with pytest.raises(ZeroDivisionError), limits.admit("ann"):
        raise ZeroDivisionError
    with limits.admit("ann"), limits.admit("ann"):
        pass


def test_too_many_requests_are_told_when_to_come_back(tmp_path: Path) -> None:
    app = create_app(settings(tmp_path, api_keys=API_KEYS, rate_per_minute=2), StubSource())

    async def use(client: httpx.AsyncClient) -> list[httpx.Response]:
        first = [await client.get("/v1/models", headers=bearer("ann")) for _ in range(3)]
        other = await client.get("/v1/models", headers=bearer("bob"))
        return [*first, other, await client.get("/readyz")]

    answers = with_client(app, use)
    assert [answer.status_code for answer in answers] == [200, 200, 429, 200, 200]
    assert answers[2].json()["code"] == "rate_limited"
    assert 1 <= int(answers[2].headers["retry-after"]) <= 30


def test_requests_at_the_same_time_are_limited_by_key(tmp_path: Path) -> None:
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


def test_so_many_places_are_had_at_once() -> None:
    lock, inside, seen = FifoSemaphore(2), [0], []
    guard = threading.Lock()

    def take() -> None:
        with lock:
            with guard:
                inside[0] += 1
                seen.append(inside[0])
            time.sleep(0.01)
            with guard:
                inside[0] -= 1

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert (max(seen), len(seen), lock._free) == (2, 6, 2)


def test_the_device_is_had_in_the_order_of_asking() -> None:
    lock, order, threads = FifoSemaphore(), [], []

    def take(number: int) -> None:
        with lock:
            order.append(number)

    with lock:
        for number in range(8):
            threads.append(threading.Thread(target=take, args=(number,)))
            threads[-1].start()
            while len(lock._waiting) <= number:
                time.sleep(0.001)
        assert order == []
    for thread in threads:
        thread.join(5)
    assert order == list(range(8))
    with lock:
        pass
