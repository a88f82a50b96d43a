"""The largest request, counted as its bytes arrive: a framework spools uploads whole before a route runs."""

from __future__ import annotations

from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.problems import problem


class _TooLargeError(Exception):
    pass


class BodyLimit:
    """ASGI middleware that answers 413 once a request's body is longer than ``max_bytes``, announced or not."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self._max_bytes:
            await self._refuse(scope, receive, send)
            return
        received, exceeded = 0, False

        async def counted() -> Message:
            nonlocal received, exceeded
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                exceeded = True
                raise _TooLargeError
            return message

        async def unless_exceeded(message: Message) -> None:
            # The form parser turns any exception into a 400: what it answers then is not sent.
            if not exceeded:
                await send(message)

        with suppress(_TooLargeError):
            await self._app(scope, counted, unless_exceeded)
        if exceeded:
            await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        text = f"the request is larger than {self._max_bytes} bytes"
        hint = "send fewer samples or sites at once, or raise VCFBERT_MAX_UPLOAD_MB"
        answer = problem(413, "too_large", text, hint=hint)
        answer.headers["connection"] = "close"  # the rest of the body is not read
        await answer(scope, receive, send)
