"""ASGI middleware that limits the size of request bodies and the stall time of both bodies."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Final

from python_multipart.multipart import parse_options_header
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .problems import problem

log = logging.getLogger(__name__)

_URLENCODED: Final = b"application/x-www-form-urlencoded"
_MAX_URLENCODED: Final = 100_000  # bytes of a form that has no file
_CHARSETS: Final = ("utf-8", "utf8", "us-ascii")


class _RefusedError(Exception):
    """Stops reading a refused body."""


class _StalledReaderError(Exception):
    """Stops a response that the client does not read."""


def _content_type(scope: Scope) -> tuple[bytes, str]:
    """The media type of the body, and the charset by which the form parser would decode its fields."""
    kind, parameters = parse_options_header(dict(scope["headers"]).get(b"content-type"))
    return kind, parameters.get(b"charset", b"utf-8").decode("latin-1")


class BodyLimit:
    """Refuses forms that are not in UTF-8. Other charsets may decode to text that can be neither stored nor sent.

    Answers 413 if a body exceeds ``max_bytes``, announced or not, and 408 if no data arrives for ``stall_seconds``.

    FastAPI spools the whole upload before the route runs, so a stalled client would hold one of its key's concurrent
    requests.

    A response of which the client reads nothing for ``stall_seconds`` is cut: it would hold a concurrent request and
    its file. The server closes a connection whose response was not completed.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, stall_seconds: float) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._stall_seconds = stall_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        kind, charset = _content_type(scope)
        if charset.lower() not in _CHARSETS:
            await self._not_utf_8(charset)(scope, receive, send)
            return
        # A form without files is parsed in the event loop, byte by byte.
        max_bytes = min(self._max_bytes, _MAX_URLENCODED) if kind == _URLENCODED else self._max_bytes
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > max_bytes:
            await self._too_large(max_bytes)(scope, receive, send)
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
            if received > max_bytes:
                refusal = self._too_large(max_bytes)
                raise _RefusedError
            return message

        async def unless_refused(message: Message) -> None:
            # The form parser turns any exception into a 400, which is discarded here.
            if refusal is not None:
                return
            try:
                async with asyncio.timeout(self._stall_seconds):
                    await send(message)
            except TimeoutError:
                raise _StalledReaderError from None  # not an OSError, which responses take for a disconnect

        with suppress(_RefusedError):
            try:
                await self._app(scope, counted, unless_refused)
            except _StalledReaderError:
                log.warning("a response was cut: its client read nothing for %g seconds", self._stall_seconds)
        if refusal is not None:
            await refusal(scope, receive, send)

    # Both refusals close the connection, because the rest of the body is not read.

    def _too_large(self, max_bytes: int) -> Response:
        return problem(
            413,
            "too_large",
            f"the request body is larger than {max_bytes} bytes",
            hint="send fewer samples or sites, or ask the operator to raise VCFBERT_MAX_UPLOAD_MB",
            headers={"connection": "close"},
        )

    def _not_utf_8(self, charset: str) -> Response:
        return problem(
            422,
            "request_invalid",
            f"the charset of the form is {charset[:40]!r}",
            hint="send forms in UTF-8",
            headers={"connection": "close"},
        )

    def _stalled(self) -> Response:
        return problem(
            408,
            "upload_stalled",
            f"no data of the request body arrived for {self._stall_seconds:g} seconds",
            hint="send the request again over a faster connection",
            headers={"connection": "close"},
        )
