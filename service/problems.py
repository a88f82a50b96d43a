"""Errors as problem+json (RFC 9457), with the library's stable error codes."""

from __future__ import annotations

import logging
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from vcfbert.errors import ArtifactError, InputError, VcfbertError

log = logging.getLogger(__name__)


def problem(status: int, code: str, detail: str, *, where: str | None = None, hint: str | None = None) -> JSONResponse:
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
        "where": where,
        "hint": hint,
    }
    return JSONResponse({k: v for k, v in body.items() if v is not None}, status, media_type="application/problem+json")


def status_of(error: VcfbertError) -> int:
    """422 for what the caller sent; 503 for what this machine lacks now; 500 for a fault of the installation."""
    if isinstance(error, ArtifactError):
        return 500
    if isinstance(error, InputError):
        return 422
    return 503


def install(app: FastAPI) -> None:
    @app.exception_handler(VcfbertError)
    async def known(request: Request, error: VcfbertError) -> JSONResponse:
        return problem(status_of(error), error.code, error.what, where=error.where, hint=error.hint)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        return problem(error.status_code, "http_error", str(error.detail))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        parts = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        return problem(422, "request_invalid", "; ".join(parts), hint="see /docs")

    @app.exception_handler(Exception)
    async def unknown(request: Request, error: Exception) -> JSONResponse:
        log.exception("unexpected", exc_info=error)
        return problem(500, "internal", "the service failed on this request", hint="its log has the details")
