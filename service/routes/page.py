"""The web page at ``/`` and its scripts, styles and icon below ``/static``. They need no key."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from fastapi import APIRouter, HTTPException, Request, Response

router = APIRouter(include_in_schema=False)

_WEB: Final = Path(__file__).parents[1] / "web"
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True)
class _Asset:
    content: bytes
    media_type: str
    etag: str


@cache
def _assets() -> dict[str, _Asset]:
    """Returns the page's files by name. Requested names are looked up here and never used as paths."""
    found = {}
    for path in sorted(_WEB.iterdir()):
        if path.suffix in _TYPES:
            content = path.read_bytes()
            found[path.name] = _Asset(content, _TYPES[path.suffix], f'"{hashlib.sha256(content).hexdigest()[:20]}"')
    return found


def _answer(request: Request, name: str) -> Response:
    """Returns the file, or 304 if the browser has it. Browsers revalidate each time, so new versions show at once."""
    asset = _assets().get(name)
    if asset is None:
        raise HTTPException(404, f"the page has no file {name!r}")
    headers = {"ETag": asset.etag, "Cache-Control": "no-cache"}
    if asset.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(asset.content, media_type=asset.media_type, headers=headers)


@router.api_route("/", methods=["GET", "HEAD"])
async def page(request: Request) -> Response:
    return _answer(request, "index.html")


@router.api_route("/static/{name}", methods=["GET", "HEAD"])
async def static(request: Request, name: str) -> Response:
    return _answer(request, name)
