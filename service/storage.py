"""The data folder: private to the service's user, and its state."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from vcfbert.artifacts import DISK_FULL, disk_full
from vcfbert.errors import ResourceError, VcfbertError

log = logging.getLogger(__name__)

_UMASK = 0o077  # uploads and results are genotypes: files get 0600 and folders 0700


def keep_private(data: Path) -> None:
    """Makes every file that this process writes readable by its user alone, and the data folder too if it exists."""
    os.umask(_UMASK)
    with suppress(OSError):  # missing, or of another user: `fault` says whether it can be used
        data.chmod(0o700)


def fault(data: Path) -> VcfbertError | None:
    """Why the data folder cannot be written; None if it can. Writes one empty file for a moment."""
    try:
        tempfile.TemporaryFile(dir=data).close()
    except FileNotFoundError:  # it is made when it is first needed
        parent = next(folder for folder in data.absolute().parents if folder.exists())
        if not os.access(parent, os.W_OK | os.X_OK):
            return unusable(PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    except OSError as error:
        return unusable(error)
    return None


def unusable(error: OSError) -> VcfbertError:
    """The error of a request that the data folder's state prevents. It shows no path of this machine."""
    if error.errno in DISK_FULL:
        return disk_full(error, None)
    log.error("the data folder cannot be used: %s", error)
    what = f"the service cannot use its data folder ({error.strerror or type(error).__name__})"
    hint = "try again later; the operator should look at VCFBERT_DATA"
    return ResourceError("storage_unusable", what, hint=hint)


def delete(path: Path) -> None:
    """Deletes a file or folder, which may be gone already. Raises ResourceError 'storage_unusable' if it stays."""
    try:
        with suppress(FileNotFoundError):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)  # another process may delete it too
                if path.exists():
                    shutil.rmtree(path)
            else:
                path.unlink()
    except OSError as error:
        raise unusable(error) from error


def own_fault(error: VcfbertError) -> VcfbertError:
    """The error as callers see it. They name no output files, so one that cannot be written is the service's own."""
    if error.code != "output_not_writable":
        return error
    cause = error.__cause__
    return unusable(cause if isinstance(cause, OSError) else OSError(error.what))
