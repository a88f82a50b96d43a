"""Errors as problem+json (RFC 9457), with the library's stable error codes."""

from __future__ import annotations

import errno
import logging
import math
from collections.abc import Mapping
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from vcfbert.artifacts import DISK_FULL
from vcfbert.errors import ArtifactError, DiskFullError, InputError, VcfbertError

from ..models.manager import ReloadRefusedError
from ..storage import own_fault, unusable
from .auth import ForbiddenError, UnauthorizedError

log = logging.getLogger(__name__)

# Id of the current request; '' outside a request.
request_id: ContextVar[str] = ContextVar("request_id", default="")

# Codes of errors that FastAPI raises itself.
CODES = {
    400: "request_invalid",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "upload_stalled",
    413: "too_large",
    415: "unsupported_type",
    416: "range_invalid",
    422: "request_invalid",
    429: "too_many_requests",
}
# Codes whose status differs from that of their error class.
STATUS = {
    "model_unknown": 404,
    "job_unknown": 404,
    "upload_unknown": 404,
    "not_done": 409,
    "expired": 410,
    "too_large": 413,
    "too_large_unpacked": 413,
    "too_many_samples": 413,
    "too_many_sites": 413,
    "too_many_contigs": 413,
    "too_many_undeclared": 413,
    "too_many_keys": 413,
    "header_too_large": 413,
    "record_too_large": 413,
    "use_jobs": 413,
    "queue_full": 429,
    "rate_limited": 429,
    "too_many_requests": 429,
}
# errno of a disk that fails or may not be written.
_STORAGE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE)
_STATUS_OF_CLASS: tuple[tuple[type[VcfbertError], int], ...] = (
    (UnauthorizedError, 401),
    (ForbiddenError, 403),
    (ReloadRefusedError, 409),
    (DiskFullError, 507),
    (ArtifactError, 500),
    (InputError, 422),
)


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    where: str | None = None,
    hint: str | None = None,
    more: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Returns a problem+json response. ``more`` adds members to its body, such as ``qc``; NaN is not allowed."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
        "where": where,
        "hint": hint,
        "request_id": request_id.get() or None,
        **(more or {}),
    }
    present = {name: encodable(value) for name, value in body.items() if value is not None}
    return JSONResponse(present, status, headers=headers, media_type="application/problem+json")


def encodable(value: Any) -> Any:
    """The same JSON value without halves of surrogate pairs, which a response cannot hold."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, Mapping):
        return {encodable(name): encodable(each) for name, each in value.items()}
    return [encodable(each) for each in value] if isinstance(value, list) else value


def status_of(error: VcfbertError) -> int:
    """Returns the HTTP status: 422 invalid input, 507 disk full, 500 faulty installation, 503 other resources."""
    if error.code in STATUS:
        return STATUS[error.code]
    return next((status for kind, status in _STATUS_OF_CLASS if isinstance(error, kind)), 503)


def problem_of(error: VcfbertError, *, more: Mapping[str, Any] | None = None) -> JSONResponse:
    """Returns the response to a known error. The error may carry ``retry_after``, in seconds, and ``more``."""
    error = own_fault(error)
    status = status_of(error)
    headers = {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    retry_after = getattr(error, "retry_after", 10 if status == 503 else None)
    if retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(retry_after)))
    if status >= 500:
        log.error("request failed on the server side", extra={"code": error.code})
    return problem(
        status,
        error.code,
        error.what,
        where=error.where if status < 500 else None,  # from 500 on it is a path on this machine
        hint=error.hint,
        more=more if more is not None else getattr(error, "more", None),
        headers=headers,
    )


def unexpected(error: Exception) -> JSONResponse:
    """Returns the response to an unexpected error. Details go to the log, not to the client."""
    if isinstance(error, OSError) and error.errno in (*DISK_FULL, *_STORAGE):
        return problem_of(unusable(error))
    log.exception("unexpected", exc_info=error)
    hint = "tell the operator the request id: the service's log has the details"
    return problem(500, "internal", "the service failed on this request", hint=hint)


def install(app: FastAPI) -> None:
    """Installs the exception handlers. ``RequestContextMiddleware`` handles all other errors by ``unexpected``."""

    @app.exception_handler(VcfbertError)
    async def known(request: Request, error: VcfbertError) -> JSONResponse:
        return problem_of(error)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        cause = error.__cause__
        if isinstance(cause, OSError):  # the form parser spools large uploads
            return problem_of(unusable(cause))
        code = CODES.get(error.status_code, "http_error")
        hint = "see /docs" if error.status_code in (400, 404, 405) else None
        return problem(error.status_code, code, str(error.detail), hint=hint, headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        parts = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        return problem(422, "request_invalid", "; ".join(parts[:20]), hint="see /docs")
