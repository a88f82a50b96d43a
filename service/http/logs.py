"""Structured logs to standard error, one line of JSON per event.

Logs never hold bodies, genotypes, sample names, keys or query strings. An exception's text may quote them, so only its
type and traceback locations are logged.
"""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections.abc import Callable
from typing import Final, TextIO, cast

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from .problems import request_id

# Loggers whose lines anyone who can connect may cause.
_FLOODED: Final = ("asyncio", "uvicorn", "service.access", "service.http", "vcfbert_service.http")
_KIND, _MAX_KINDS = 60, 1000  # characters that tell kinds of lines apart; kinds that are remembered


def configure(as_json: bool, stream: TextIO | None = None) -> None:
    """Sends all logs of this process, those of libraries included, through structlog.

    Call it once when a program starts: it replaces the root logger's handlers.
    """
    shared: list[Processor] = [
        _with_request_id,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_exception_texts,
    ]
    last = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=False)
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.addFilter(RateLimit())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    for name in ("uvicorn", "uvicorn.error", "huey"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True
    for name in ("httpx", "alembic", "mlflow", "huey", "faiss"):  # at INFO they log every step
        logging.getLogger(name).setLevel(logging.WARNING)
    # Its lines contain query strings. RequestContextMiddleware logs each request instead.
    logging.getLogger("uvicorn.access").disabled = True


class RateLimit(logging.Filter):
    """Drops lines that clients without a key can cause, beyond ``most`` of a kind in ``seconds``. The next line of that
    kind says how many were dropped."""

    def __init__(self, most: int = 50, seconds: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._kinds: dict[tuple[str, str], tuple[float, int]] = {}  # start of the period, and lines in it

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(_FLOODED) or (isinstance(record.msg, dict) and record.msg.get("caller")):
            return True
        kind = record.name, str(record.msg["event"] if isinstance(record.msg, dict) else record.msg)[:_KIND]
        now = self._clock()
        start, count = self._kinds.get(kind, (now, 0))
        dropped = 0
        if now - start >= self._seconds:
            start, count, dropped = now, 0, max(count - self._most, 0)
        if len(self._kinds) > _MAX_KINDS:
            self._kinds.clear()
        self._kinds[kind] = start, count + 1
        if dropped and isinstance(record.msg, str):
            record.msg = f"{record.msg} ({dropped} lines like this were dropped)"
        elif dropped:
            record.msg = {**cast(dict[str, object], record.msg), "dropped": dropped}
        return count < self._most


def _with_request_id(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    identity = request_id.get()
    if identity:
        event["request_id"] = identity
    return event


def _without_exception_texts(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    raised = event.pop("exc_info", None)
    if raised is True:
        raised = sys.exc_info()
    error = raised[1] if isinstance(raised, tuple) else raised
    if isinstance(error, BaseException):
        event["exception"] = type(error).__name__
        frames = traceback.extract_tb(error.__traceback__)
        event["stack"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    event.pop("color_message", None)  # uvicorn's copy of the text for terminals
    record = event.get("_record")
    if record is not None:  # otherwise the formatter would append the exception's text
        record.exc_info = record.exc_text = None
    return event
