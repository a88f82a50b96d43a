"""Limits per caller: requests per minute and concurrent requests."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError
from redis.asyncio import ConnectionPool

from vcfbert.errors import VcfbertError

log = logging.getLogger(__name__)

_PREFIX = "vcfbert:limits"  # of the keys in Redis
_REDIS_TIMEOUT = 0.5  # seconds that a request waits for Redis
_REDIS_PAUSE = 10.0  # seconds without Redis after it failed


class LimitedError(VcfbertError):
    """429: the caller may try again after ``retry_after`` seconds."""

    def __init__(self, code: str, what: str, *, retry_after: float, hint: str) -> None:
        super().__init__(code, what, hint=hint)
        self.retry_after = retry_after


class CallerLimits:
    """Limits per caller. Use it within one event loop.

    ``RequestRate`` counts requests per minute, in Redis if the service has one. Concurrent requests are counted in
    this process.
    """

    def __init__(self, per_minute: int, concurrent: int, redis_url: str = "") -> None:
        self._rate = RequestRate(per_minute, redis_url)
        self._concurrent = concurrent
        self._running: dict[str, int] = {}

    @asynccontextmanager
    async def admit(self, name: str) -> AsyncIterator[None]:
        """Counts a request as running within the block. Raises LimitedError 'rate_limited', 'too_many_requests'."""
        running = self._running.get(name, 0)
        if running >= self._concurrent:
            raise LimitedError(
                "too_many_requests",
                f"this key already has {running} running requests, the maximum",
                retry_after=1,
                hint="wait until one of them ends, or submit a job",
            )
        self._running[name] = running + 1
        try:
            await self._rate.count(name)
            yield
        finally:
            self._running[name] -= 1
            if not self._running[name]:
                del self._running[name]


class RequestRate:
    """Limits each caller to ``per_minute`` requests by a sliding window counter.

    The counter adds the current window's requests to a fraction of the previous window's: it assumes that those were
    evenly spread. Windows are of one minute. Right after a burst, a caller can thus exceed the rate within 60 seconds.

    With ``redis_url`` all processes that share the Redis server share the counts. While the server does not answer,
    each process counts in its own memory.
    """

    def __init__(self, per_minute: int, redis_url: str = "") -> None:
        self._limit: RateLimitItem = RateLimitItemPerMinute(per_minute)
        self._local = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._shared = SlidingWindowCounterRateLimiter(_redis(redis_url)) if redis_url else None
        self._shared_from = 0.0  # on the monotonic clock: when Redis is asked again

    async def count(self, name: str) -> None:
        """Counts one request of the caller. Raises LimitedError 'rate_limited' if it exceeds the limit."""
        wait = await self._count(name)
        if wait is not None:
            raise LimitedError(
                "rate_limited",
                f"this key sent more than {self._limit.amount} requests within a minute",
                retry_after=wait,
                hint="wait for the number of seconds in the Retry-After header",
            )

    async def _count(self, name: str) -> float | None:
        """Returns None, or the seconds until the caller may try again."""
        if self._shared is not None and time.monotonic() >= self._shared_from:
            try:
                async with asyncio.timeout(_REDIS_TIMEOUT):
                    return await self._hit(self._shared, name)
            except (StorageError, TimeoutError) as error:
                self._shared_from = time.monotonic() + _REDIS_PAUSE
                kind = type(error.__cause__ if isinstance(error, StorageError) else error).__name__
                log.warning("Redis does not answer (%s): this process counts requests in its own memory", kind)
        return await self._hit(self._local, name)

    async def _hit(self, limiter: SlidingWindowCounterRateLimiter, name: str) -> float | None:
        if await limiter.hit(self._limit, name):
            return None
        return (await limiter.get_window_stats(self._limit, name)).reset_time - time.time()


def _redis(url: str) -> RedisStorage:
    # redis-py reads the address, as it does for the queue: `limits` itself refuses one without a port.
    return RedisStorage(
        "redis://",
        wrap_exceptions=True,
        implementation="redispy",
        key_prefix=_PREFIX,
        connection_pool=ConnectionPool.from_url(url),  # type: ignore[arg-type]  # its annotation lacks the pool
    )
