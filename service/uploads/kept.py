"""Checked uploads that are kept for a later job. Each belongs to one caller and expires after a limited time."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from fastapi import UploadFile

from vcfbert.artifacts import write_json
from vcfbert.errors import InputError

from ..settings import Settings
from ..storage import delete
from .files import Upload, shown_name

_ID = re.compile(r"[0-9a-f]{32}")
_ABOUT, _TARGET = "about.json", "target"

UPLOAD_FIELD = "id of an upload that `POST /v1/qc` kept; replaces `file`"


@dataclass(frozen=True)
class KeptUpload:
    """``expires``: seconds since the epoch; ``size`` in bytes."""

    id: str
    folder: Path
    name: str
    size: int
    expires: float

    @property
    def upload(self) -> Upload:
        return Upload(self.folder, self.folder / _TARGET, self.name)


class KeptUploads:
    """The folders DATA/kept/ID/, each with an upload and its caller. Several processes may share them.

    A caller has at most ``settings.kept_uploads``. Another one replaces the oldest, so a caller can always check files.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self._folder = settings.data / "kept"
        self._max_kept = settings.kept_uploads
        self._seconds = settings.kept_minutes * 60
        self._clock = clock

    def keep(self, caller: str, upload: Upload) -> KeptUpload:
        """Moves a received upload out of its folder and keeps it. One too many replaces the caller's oldest."""
        size, expires = upload.target.stat().st_size, self._clock() + self._seconds
        about = {"caller": caller, "name": upload.name, "size": size, "expires": expires}
        write_json(upload.folder / _ABOUT, about)
        upload_id = uuid.uuid4().hex
        self._folder.mkdir(parents=True, exist_ok=True)
        folder = self._folder / upload_id
        os.rename(upload.folder, folder)  # atomic: readers see the whole folder or none
        # Counted afterwards, so that requests at the same moment count each other's.
        own = sorted((kept.expires, kept.id, kept.folder) for owner, kept in self._all() if owner == caller)
        for _, _, oldest in own[: max(len(own) - self._max_kept, 0)]:
            shutil.rmtree(oldest, ignore_errors=True)
        return KeptUpload(upload_id, folder, upload.name, size, expires)

    def get(self, caller: str, upload_id: str) -> KeptUpload:
        """Returns a kept upload. Raises InputError 'upload_unknown', also for the upload of another caller."""
        found = self._read(upload_id) if _ID.fullmatch(upload_id) else None
        if found is None or found[0] != caller or found[1].expires <= self._clock():
            raise _unknown()
        return found[1]

    def named(self, caller: str, file: UploadFile | None, upload_id: str | None) -> KeptUpload | None:
        """Returns the kept upload that a request names, or None if it has a ``file``.

        Raises InputError 'request_invalid' if it has neither or both, and 'upload_unknown'.
        """
        if (file is None) == (not upload_id):
            what = (
                "the form has neither `file` nor `upload`" if file is None else "the form has both `file` and `upload`"
            )
            raise InputError(
                "request_invalid",
                f"body.file: {what}",
                hint="send either `file`, or `upload` with an id that POST /v1/qc returned",
            )
        return self.get(caller, upload_id) if upload_id else None

    def remove(self, caller: str, upload_id: str) -> None:
        """Deletes a kept upload. Raises InputError 'upload_unknown'."""
        self.discard(self.get(caller, upload_id))

    def discard(self, kept: KeptUpload) -> None:
        """Deletes the upload, which may be gone already: another request may have used it, or it expired. Raises
        ResourceError 'storage_unusable' if it stays."""
        delete(kept.folder)

    def expire(self) -> None:
        """Deletes expired uploads. Any process may call it, at any time."""
        for _, kept in self._all():
            if kept.expires <= self._clock():
                shutil.rmtree(kept.folder, ignore_errors=True)

    def _read(self, upload_id: str) -> tuple[str, KeptUpload] | None:
        """Returns the caller and the upload, or None if there is no such upload."""
        folder = self._folder / upload_id
        try:
            about = json.loads((folder / _ABOUT).read_text())
        except FileNotFoundError:
            return None
        return about["caller"], KeptUpload(upload_id, folder, about["name"], about["size"], about["expires"])

    def _all(self) -> Iterator[tuple[str, KeptUpload]]:
        with suppress(FileNotFoundError):
            for folder in list(self._folder.iterdir()):
                found = self._read(folder.name)
                if found is not None:
                    yield found


def _unknown() -> InputError:
    hint = "an upload is kept for a limited time after its check: send the file again"
    return InputError("upload_unknown", "no kept upload has this id", hint=hint)


@contextmanager
def file_of(file: UploadFile | None, kept: KeptUpload | None) -> Iterator[tuple[BinaryIO, str]]:
    """Yields content and file name of ``file`` or ``kept``, whichever is given.

    Raises InputError 'upload_unknown' if another request has deleted ``kept`` meanwhile.
    """
    if kept is not None:
        try:
            content = kept.upload.target.open("rb")
        except FileNotFoundError:
            raise _unknown() from None
        with content:
            yield content, kept.name
    else:
        assert file is not None
        yield file.file, shown_name(file.filename)
