"""ASGI middleware around every route: authentication, rate limits, response headers, access log and metrics."""

from __future__ import annotations

import re
import secrets
import time
from contextlib import AsyncExitStack
from urllib.parse import SplitResult, urlsplit

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vcfbert.errors import VcfbertError

from ..settings import Settings, is_loopback
from .auth import identify
from .draining import Drain
from .limits import CallerLimits
from .metrics import Metrics
from .problems import problem, problem_of, request_id, unexpected

log = structlog.get_logger("service.access")

REQUEST_ID = "X-Request-Id"
_SANE_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
# The page loads only its own files, cannot be framed, and sends no referrer to linked sites.
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_PROXIED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via")
_PROBES = ("/healthz", "/readyz")


class RequestContextMiddleware:
    """Adds the request id and security headers to every response, failures included; logs and measures each request.

    The log holds method, route, status, duration and caller name. It never holds a query, body or key.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, drain: Drain) -> None:
        self._app = app
        self._metrics = metrics
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = Headers(scope=scope).get(REQUEST_ID, "")
        identity = asked if _SANE_ID.fullmatch(asked) else secrets.token_hex(8)
        token = request_id.set(identity)
        status, started = 0, time.perf_counter()

        async def with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID] = identity
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                if scope["path"].startswith("/v1"):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            with self._drain.request():
                await self._app(scope, receive, with_headers)
        except Exception as error:
            answer = unexpected(error)
            if not status:
                await answer(scope, receive, with_headers)
            else:  # the response has started: only closing the connection signals the failure
                status = 500
                raise _CutError from None
        finally:
            self._done(scope, status, time.perf_counter() - started)
            request_id.reset(token)

    def _done(self, scope: Scope, status: int, seconds: float) -> None:
        # 499, as proxies report it: the client disconnected before the response started.
        template, status = route_template(scope), status or 499
        self._metrics.request(scope["method"], template, status, seconds)
        if scope["path"] not in _PROBES or status >= 500:
            caller = scope.get("state", {}).get("caller")
            log.info(
                "request",
                method=scope["method"],
                route=template,
                status=status,
                ms=round(seconds * 1000, 1),
                caller=caller.name if caller else None,
            )


class _CutError(Exception):
    """Closes the connection after the response has started. The cause is already logged."""


def route_template(scope: Scope) -> str:
    """Returns the route's path template, such as /v1/jobs/{id}, or 'unmatched' if no route matched."""
    path = getattr(scope.get("route"), "path", None)
    return str(path) if path else "unmatched"


def _split(address: str) -> SplitResult:
    """The parts of an address; those of an empty one if it is none, such as `http://[`."""
    try:
        return urlsplit(address)
    except ValueError:
        return urlsplit("")


class AuthMiddleware:
    """Authenticates each request and applies the caller's limits before the body is read."""

    def __init__(self, app: ASGIApp, settings: Settings, limits: CallerLimits, drain: Drain) -> None:
        self._app = app
        self._settings = settings
        self._limits = limits
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        closed = self._closed(scope, headers)
        if closed is not None:
            hint = "ask the operator to set VCFBERT_API_KEYS, or VCFBERT_OPEN=true to admit everyone"
            await problem(403, "closed", closed, hint=hint)(scope, receive, send)
            return
        if not self._needs_key(scope, headers):
            await self._app(scope, receive, send)
            return
        if self._drain.draining:
            text = "the service is shutting down and accepts no new requests"
            hint = "send the request again after the restart"
            answer = problem(503, "draining", text, hint=hint, headers={"Retry-After": "10", "connection": "close"})
            await answer(scope, receive, send)
            return
        async with AsyncExitStack() as admitted:
            try:
                caller = identify(self._settings, headers)
                await admitted.enter_async_context(self._limits.admit(caller.name))
            except VcfbertError as error:
                await problem_of(error)(scope, receive, send)
                return
            scope.setdefault("state", {})["caller"] = caller
            await self._app(scope, receive, send)

    def _closed(self, scope: Scope, headers: Headers) -> str | None:
        """Returns why the request is refused, or None.

        A service without keys that is not set open serves its own machine only. It also refuses pages of other
        sites that a browser on this machine has open.
        """
        if self._settings.keys or self._settings.open:
            return None
        address = (scope.get("server") or ("",))[0]
        # A UNIX socket has a path or nothing for an address.
        if address and not address.startswith("/") and not is_loopback(address):
            return "this service has no access keys and accepts requests from its own machine only"
        if not is_loopback(_split(f"//{headers.get('host', 'localhost')}").hostname or ""):
            return "this service has no access keys and accepts only `localhost` and loopback addresses as host names"
        origin = headers.get("origin")
        if origin is None or origin in self._settings.origins or _split(origin).netloc == headers.get("host"):
            return None
        return "this service has no access keys and refuses requests from pages of other sites"

    def _needs_key(self, scope: Scope, headers: Headers) -> bool:
        path = scope["path"]
        if path == "/metrics":
            ends = (scope.get("client"), scope.get("server"))
            local = all(end is not None and is_loopback(end[0]) for end in ends)
            # A proxy on this machine passes others' requests on. It leaves their host name, or adds a header.
            own_host = is_loopback(_split(f"//{headers.get('host', 'localhost')}").hostname or "")
            return not (local and own_host and not any(name in headers for name in _PROXIED))
        return bool(path.startswith("/v1/"))
