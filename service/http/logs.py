"""Structured logs to standard error, one line of JSON per event.

Logs never hold bodies, genotypes, sample names, keys or query strings. An exception's text may quote them, so only its
type and traceback locations are logged.
"""

from __future__ import annotations

import logging
import sys
import traceback
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from .problems import request_id


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
