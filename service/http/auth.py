"""Access keys: authenticates callers and checks administrator rights."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from starlette.datastructures import Headers

from vcfbert.errors import VcfbertError

from ..settings import LOCAL, Settings


class UnauthorizedError(VcfbertError):
    """401: the request has no valid key."""


class ForbiddenError(VcfbertError):
    """403: the caller is known but not permitted."""


@dataclass(frozen=True)
class KnownCaller:
    """``name`` is that of the key: jobs and limits belong to it. ``admin`` callers may reload models."""

    name: str
    admin: bool


def identify(settings: Settings, headers: Headers) -> KnownCaller:
    """Returns the caller of ``Authorization: Bearer KEY`` or ``X-API-Key: KEY``. Raises UnauthorizedError.

    Without configured keys every caller is the local administrator. ``AuthMiddleware`` decides who is admitted.
    """
    if not settings.keys:
        return KnownCaller(LOCAL, True)
    digest = key_digest(_key(headers))
    # Every key is compared in constant time, so timing reveals neither a matching prefix nor which key matched.
    names = [name for name, known in settings.keys.items() if hmac.compare_digest(digest, known)]
    if not names:
        raise UnauthorizedError(
            "unauthorized",
            "the request has no valid access key",
            hint="send a key as `Authorization: Bearer KEY` or `X-API-Key: KEY`; the operator issues keys",
        )
    return KnownCaller(names[0], names[0] in settings.admins)


def key_digest(key: str) -> str:
    """Returns the hex sha256 of a key, as ``VCFBERT_API_KEYS`` lists it."""
    return hashlib.sha256(key.encode()).hexdigest()


def _key(headers: Headers) -> str:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "").strip()


def _caller(request: Request) -> KnownCaller:
    # Set by AuthMiddleware before the body was read.
    caller: KnownCaller = request.state.caller
    return caller


def _admin(request: Request) -> KnownCaller:
    caller = _caller(request)
    if not caller.admin:
        raise ForbiddenError(
            "forbidden",
            f"the key {caller.name!r} has no administrator rights",
            hint="ask the operator to add it to VCFBERT_ADMIN_KEYS",
        )
    return caller


Caller = Annotated[KnownCaller, Depends(_caller)]
Admin = Annotated[KnownCaller, Depends(_admin)]
