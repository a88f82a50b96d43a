"""Limits per key (requests per minute, concurrent requests) and per request body (size, stall time)."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vcfbert.errors import VcfbertError

from .problems import problem

_KEPT = 10_000  # maximum number of callers with a bucket


class LimitedError(VcfbertError):
    """429: the caller may try again after ``retry_after`` seconds."""

    def __init__(self, code: str, what: str, *, retry_after: float, hint: str) -> None:
        super().__init__(code, what, hint=hint)
        self.retry_after = retry_after


class CallerLimits:
    """Limits per caller, held in this process. Thread-safe.

    The rate limit is a token bucket of ``per_minute`` tokens: a caller may send a minute's requests at once.
    """

    def __init__(self, per_minute: int, concurrent: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._concurrent = concurrent
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[str, tuple[float, float]] = {}  # (tokens left, time of that count)
        self._running: dict[str, int] = {}

    @contextmanager
    def admit(self, name: str) -> Iterator[None]:
        """Count a request as running within the block. Raises LimitedError 'rate_limited', 'too_many_requests'."""
        with self._lock:
            if self._running.get(name, 0) >= self._concurrent:
                raise LimitedError(
                    "too_many_requests",
                    f"{self._concurrent} requests of this key are being answered, the most at the same time",
                    retry_after=1,
                    hint="wait for one of them, or send a job",
                )
            self._take(name)
            self._running[name] = self._running.get(name, 0) + 1
        try:
            yield
        finally:
            with self._lock:
                self._running[name] -= 1
                if not self._running[name]:
                    del self._running[name]

    def _take(self, name: str) -> None:
        now, a_second = self._clock(), self._per_minute / 60
        tokens, since = self._buckets.get(name, (float(self._per_minute), now))
        tokens = min(float(self._per_minute), tokens + (now - since) * a_second)
        if tokens < 1:
            raise LimitedError(
                "rate_limited",
                f"this key has sent {self._per_minute} requests within a minute, the most that are answered",
                retry_after=(1 - tokens) / a_second,
                hint="wait as long as Retry-After says",
            )
        if len(self._buckets) >= _KEPT:
            self._buckets.clear()  # bounds the dictionary; more callers than keys cannot occur
        self._buckets[name] = (tokens - 1, now)


class _RefusedError(Exception):
    """Stops reading a refused body."""


class BodyLimit:
    """ASGI middleware that limits request bodies.

    It answers 413 if the body exceeds ``max_bytes``, announced or not, and 408 if no data arrives for
    ``stall_seconds``. FastAPI spools the whole upload before the route runs, so a stalled client would hold one of
    its key's concurrent requests.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, stall_seconds: float) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._stall_seconds = stall_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self._max_bytes:
            await self._too_large()(scope, receive, send)
            return
        received, whole = 0, False
        refusal: Response | None = None

        async def counted() -> Message:
            nonlocal received, whole, refusal
            try:
                # After the whole body, receive() waits only for the client to disconnect.
                async with asyncio.timeout(None if whole else self._stall_seconds):
                    message = await receive()
            except TimeoutError:
                refusal = self._stalled()
                raise _RefusedError from None
            received += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if received > self._max_bytes:
                refusal = self._too_large()
                raise _RefusedError
            return message

        async def unless_refused(message: Message) -> None:
            # The form parser turns any exception into a 400, which is discarded here.
            if refusal is None:
                await send(message)

        with suppress(_RefusedError):
            await self._app(scope, counted, unless_refused)
        if refusal is not None:
            await refusal(scope, receive, send)

    # Both refusals close the connection, because the rest of the body is not read.

    def _too_large(self) -> Response:
        text = f"the request is larger than {self._max_bytes} bytes"
        hint = "send fewer samples or sites at once, or raise VCFBERT_MAX_UPLOAD_MB"
        return problem(413, "too_large", text, hint=hint, headers={"connection": "close"})

    def _stalled(self) -> Response:
        text = f"nothing more of the request has come for {self._stall_seconds:g} seconds"
        hint = "send it again, over a better connection"
        return problem(408, "upload_stalled", text, hint=hint, headers={"connection": "close"})
