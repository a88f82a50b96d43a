"""Downloads a file, or a range of its bytes, over HTTP. Resumes after interruptions and retries after failures."""

from __future__ import annotations

import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

from vcfbert.errors import InputError, VcfbertError

TIMEOUT_SECONDS: Final = 60
# Consecutive failures without a received byte before the download fails. The wait starts at 1 s and doubles.
MAX_FAILURES: Final = 6
_CHUNK_BYTES: Final = 1 << 20

Report = Callable[[int, int], None]  # bytes so far, total bytes


def download(url: str, part: Path, *, first: int = 0, last: int | None = None, report: Report) -> None:
    """Downloads bytes ``first`` to ``last`` (inclusive) of a file to ``part``; None for ``last`` means the end.

    A file that ends before ``last`` gives fewer bytes. Bytes that ``part`` holds already are kept if they belong to the
    same version of the file, by its ETag or modification time.

    Raises InputError 'download_refused' where the server does not have the file, VcfbertError 'download_failed' after
    ``MAX_FAILURES`` consecutive failures, and OSError where ``part`` cannot be written.
    """
    failures = 0
    while True:
        before = _size(part)
        try:
            if _attempt(url, part, first, last, report):
                return
            reason = "the connection was cut"
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in (408, 429):
                raise InputError("download_refused", f"the server answered {error.code}", where=url) from error
            reason = f"the server answered {error.code}"
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            reason = str(error)
        failures = 1 if _size(part) > before else failures + 1
        if failures >= MAX_FAILURES:
            hint = "check the connection and repeat the command, which resumes the download"
            raise VcfbertError("download_failed", reason, where=url, hint=hint)
        time.sleep(2 ** (failures - 1))


def remove(part: Path) -> None:
    """Deletes the files that ``download`` wrote for ``part``."""
    part.unlink(missing_ok=True)
    _version_file(part).unlink(missing_ok=True)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _version_file(part: Path) -> Path:
    """Records the version of the remote file in ``part``, so that two versions are never mixed."""
    return part.with_name(f"{part.name}.version")


def _attempt(url: str, part: Path, first: int, last: int | None, report: Report) -> bool:
    """Sends one request. Returns whether ``part`` is complete."""
    version = _version_file(part)
    have = _size(part) if version.exists() else 0
    if last is not None and first + have > last:
        return True
    request = urllib.request.Request(url, headers={"Range": f"bytes={first + have}-{'' if last is None else last}"})
    if have:
        request.add_header("If-Range", version.read_text())
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        if error.headers.get("Content-Range") == f"bytes */{first + have}":
            return True  # the remote file ends where the part ends
        remove(part)
        return False
    with answer:
        if answer.status == 206:
            place, stop = _content_range(answer)
            if place != first + have:
                raise http.client.HTTPException(f"asked for byte {first + have}, got {place}")
            skip = 0
        else:  # the whole file: the server does not support ranges, or the file changed since the part was begun
            have, skip = 0, first
            stop = int(answer.headers["Content-Length"])
            stop = stop if last is None else min(last + 1, stop)
        with part.open("ab" if have else "wb") as handle:
            _note_version(answer, version)
            return _copy(answer, handle, skip=skip, have=have, total=stop - first, report=report)


def _content_range(answer: http.client.HTTPResponse) -> tuple[int, int]:
    """The half-open byte range of an answer."""
    match = re.match(r"bytes (\d+)-(\d+)/", answer.headers.get("Content-Range", ""))
    if match is None:
        raise http.client.HTTPException("partial content without a Content-Range")
    return int(match[1]), int(match[2]) + 1


def _note_version(answer: http.client.HTTPResponse, version: Path) -> None:
    etag = answer.headers.get("ETag", "")
    # A weak ETag does not guarantee the same bytes. Without a validator a download does not resume.
    validator = answer.headers.get("Last-Modified", "") if not etag or etag.startswith("W/") else etag
    if validator:
        version.write_text(validator)
    else:
        version.unlink(missing_ok=True)


def _copy(
    answer: http.client.HTTPResponse, handle: BinaryIO, *, skip: int, have: int, total: int, report: Report
) -> bool:
    """Appends the answer without its first ``skip`` bytes, up to ``total`` bytes. False if it ended before."""
    while skip and (chunk := answer.read(min(skip, _CHUNK_BYTES))):
        skip -= len(chunk)
    while have < total and (chunk := answer.read(min(total - have, _CHUNK_BYTES))):
        handle.write(chunk)
        have += len(chunk)
        report(have, total)
    return have == total
