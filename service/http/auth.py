"""Who calls: keys in requests, their names in the service."""

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
    """401: there is no valid key in the request."""


class ForbiddenError(VcfbertError):
    """403: the caller is known, and may not do this."""


@dataclass(frozen=True)
class KnownCaller:
    """``name`` of the key, under which jobs and limits are kept; ``admin``: may reload models."""

    name: str
    admin: bool


def identify(settings: Settings, headers: Headers) -> KnownCaller:
    """The caller by ``Authorization: Bearer KEY`` or ``X-API-Key: KEY``. Raises UnauthorizedError.

    Without configured keys everyone is the same local administrator: who is let in at all is decided before.
    """
    if not settings.keys:
        return KnownCaller(LOCAL, True)
    digest = key_digest(_key(headers))
    # Every key is compared, each in constant time: neither how far one agrees nor which one it is can be measured.
    names = [name for name, known in settings.keys.items() if hmac.compare_digest(digest, known)]
    if not names:
        raise UnauthorizedError(
            "unauthorized",
            "this service needs an access key, and the request has no valid one",
            hint="send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`; the operator hands them out",
        )
    return KnownCaller(names[0], names[0] in settings.admins)


def key_digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _key(headers: Headers) -> str:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "").strip()


def _caller(request: Request) -> KnownCaller:
    # Put there by the gate, before the body was read.
    caller: KnownCaller = request.state.caller
    return caller


def _admin(request: Request) -> KnownCaller:
    caller = _caller(request)
    if not caller.admin:
        raise ForbiddenError(
            "forbidden",
            f"the key {caller.name!r} may not do this",
            hint="ask the operator: VCFBERT_ADMIN_KEYS names the keys that may",
        )
    return caller


Caller = Annotated[KnownCaller, Depends(_caller)]
Admin = Annotated[KnownCaller, Depends(_admin)]
