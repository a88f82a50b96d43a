"""Private copies of served bundles: DATA/models/DIGEST/ holds the files that processes of the service map.

A change of the bundle's own folder, even a truncation, reaches no running process.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vcfbert.artifacts import (
    MANIFEST,
    SIGNATURE,
    atomic_file,
    bundle_digest,
    check_files,
    is_digest,
    listed_files,
    output_error,
)
from vcfbert.constants import BUNDLE_KIND
from vcfbert.errors import ArtifactError

log = logging.getLogger(__name__)

_FICLONE = 0x40049409  # ioctl that shares the blocks of a file with its copy, where the file system can
_ATTEMPTS = 3  # at a copy that other processes may remove at the same moment
_ABANDONED_SECONDS = 3600.0  # a copy that is not complete after this long was interrupted


@dataclass
class PrivateCopy:
    """A verified copy in use. No process removes it as long as this object exists."""

    folder: Path
    descriptor: int  # of the folder, with a shared lock

    def renew_signature(self, origin: Path) -> None:
        """Copies the signature of ``origin``, if it has one."""
        if (origin / SIGNATURE).is_file():
            with atomic_file(self.folder / SIGNATURE) as temporary:
                shutil.copyfile(origin / SIGNATURE, temporary)

    def __del__(self) -> None:
        with suppress(OSError):
            os.close(self.descriptor)


class PrivateCopies:
    """Copies of bundles by digest. Processes that share the data folder share them."""

    def __init__(self, data: Path) -> None:
        self._folder = data / "models"

    def open(self, digest: str, source: Callable[[], Path]) -> PrivateCopy:
        """The copy of the bundle with this digest. It is made from ``source`` if it is missing or damaged.

        Raises ArtifactError if the source is damaged or another bundle, InputError or DiskFullError if the copy cannot
        be written. Copies that no process uses are removed.
        """
        if not is_digest(digest):
            hint = "register the bundle again"
            raise ArtifactError("bundle_hash", f"{digest!r} is not the digest of a bundle", hint=hint)
        folder = self._folder / digest
        for _ in range(_ATTEMPTS):
            copy = _lock(folder)
            if copy is not None and _is_sound(folder, digest):
                self._remove_unused(folder)
                return copy
            if copy is not None:
                log.warning("the copy %s is damaged and is made again", folder)
                _remove(folder)
            origin = source()
            try:
                self._write(folder, origin)
            except OSError as error:
                raise output_error(error, folder) from error
        what = "it is changed again and again while it is copied"
        raise ArtifactError("bundle_changed", what, where=str(origin), hint="load it again when it is complete")

    def _write(self, folder: Path, origin: Path) -> None:
        """Copies the listed files. The copy appears whole and checked."""
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = Path(tempfile.mkdtemp(prefix=".", suffix=".tmp", dir=folder.parent))
        try:
            names = [MANIFEST, *listed_files(origin, BUNDLE_KIND)]
            for name in [*names, *([SIGNATURE] if (origin / SIGNATURE).is_file() else [])]:
                _copy(origin / name, temporary / name)
            check_files(temporary, BUNDLE_KIND)
            os.rename(temporary, folder)
        except OSError:
            if not folder.is_dir():  # otherwise another process was faster
                raise
        except ArtifactError as error:
            error.where = str(origin)
            raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _remove_unused(self, used: Path) -> None:
        """Removes other copies that no process uses, and what interrupted processes left."""
        for folder in self._folder.iterdir():
            if folder == used:
                continue
            if folder.name.startswith("."):
                with suppress(OSError):
                    if time.time() - folder.stat().st_mtime > _ABANDONED_SECONDS:
                        shutil.rmtree(folder, ignore_errors=True)
            elif (copy := _lock(folder, fcntl.LOCK_EX)) is not None:
                _remove(copy.folder)


def _lock(folder: Path, kind: int = fcntl.LOCK_SH) -> PrivateCopy | None:
    """The folder, locked; None if it is missing or another process holds a lock that excludes this one."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    copy = PrivateCopy(folder, descriptor)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    except OSError:  # a network file system without locks: nothing is ever removed there
        if kind == fcntl.LOCK_EX:
            return None
    try:  # it may have been removed before the lock was taken
        return copy if os.path.samestat(os.fstat(descriptor), os.stat(folder)) else None
    except OSError:
        return None


def _is_sound(folder: Path, digest: str) -> bool:
    try:
        check_files(folder, BUNDLE_KIND)
        return bundle_digest(folder) == digest
    except (ArtifactError, OSError):
        return False


def _copy(source: Path, target: Path) -> None:
    """Copies a file, without copying its blocks where the file system can share them."""
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with source.open("rb") as origin, target.open("xb") as copy:
        try:
            fcntl.ioctl(copy, _FICLONE, origin.fileno())
        except OSError:
            shutil.copyfileobj(origin, copy, 1 << 20)
    target.chmod(0o400)


def _remove(folder: Path) -> None:
    """Removes a copy. Its name is gone first, so that no process takes it for a whole one."""
    doomed = folder.with_name(f".{folder.name}.{os.urandom(6).hex()}.tmp")
    with suppress(OSError):
        os.rename(folder, doomed)
        shutil.rmtree(doomed, ignore_errors=True)
