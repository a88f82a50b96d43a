"""A job's files: DATA/jobs/ID/ holds the upload and, once the job is done, the results."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from vcfbert.artifacts import atomic_file

from ..storage import delete, unusable

_COPY_BYTES = 1 << 20
# An upload has no row until it is complete. A folder without a row, unchanged for this long, was abandoned.
_ORPHAN_SECONDS = 3600.0
_MARK_SECONDS = 60.0  # in which a request removes the row itself
_DELETED = ".deleted"  # ending of the empty folder that is left of a job


class JobFiles:
    """The files of all jobs. The service chooses every file name; a caller's upload name is never a path."""

    def __init__(self, data: Path) -> None:
        self.folder = data / "jobs"

    def of(self, job_id: str) -> Path:
        """The job's folder, which may not exist."""
        return self.folder / job_id

    def target(self, job_id: str) -> Path:
        """The upload."""
        return self.of(job_id) / "target"

    def result(self, job_id: str, extension: str) -> Path:
        """The imputed file. ``extension``: vcf.gz or bcf."""
        return self.of(job_id) / f"imputed.{extension}"

    def index(self, job_id: str, extension: str) -> Path:
        """The index of the imputed file: .tbi of a vcf.gz, .csi of a bcf."""
        return self.of(job_id) / f"imputed.{extension}.{'tbi' if extension == 'vcf.gz' else 'csi'}"

    def qc(self, job_id: str) -> Path:
        return self.of(job_id) / "qc.json"

    def qc_sites(self, job_id: str) -> Path:
        return self.of(job_id) / "qc.tsv"

    def report(self, job_id: str) -> Path:
        return self.of(job_id) / "report.json"

    def store_upload(self, job_id: str, content: BinaryIO) -> int:
        """Stores the upload and returns its bytes. On return it is on disk under its final name. Raises VcfbertError,
        such as 'disk_full'."""
        target = self.target(job_id)
        with atomic_file(target) as temporary, temporary.open("wb") as handle:
            shutil.copyfileobj(content, handle, _COPY_BYTES)
        return target.stat().st_size

    @contextmanager
    def working_folder(self, job_id: str, attempt: int) -> Iterator[Path]:
        """A folder for one attempt's results, removed at the end. Leftovers of earlier attempts are removed first."""
        working = self.of(job_id) / f".attempt-{attempt}"
        for left in self.of(job_id).glob(".attempt-*"):
            shutil.rmtree(left, ignore_errors=True)
        working.mkdir()
        try:
            yield working
        finally:
            shutil.rmtree(working, ignore_errors=True)

    def publish(self, job_id: str, working: Path, pattern: str = "[!.]*") -> None:
        """Moves an attempt's files that match ``pattern`` to their final places, complete and on disk.

        All attempts write the same files, so publishing twice changes nothing.
        """
        folder = self.of(job_id)
        for path in sorted(working.glob(pattern)):
            with path.open("rb") as handle:
                os.fsync(handle.fileno())
            os.replace(path, folder / path.name)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def remove_target(self, job_id: str) -> None:
        """Deletes the upload, so genotypes are kept no longer than needed."""
        self.target(job_id).unlink(missing_ok=True)

    def with_leftovers(self) -> list[str]:
        """Ids of the jobs whose folder holds an upload or an attempt's unfinished results."""
        found = [*self.folder.glob("*/target"), *self.folder.glob("*/.attempt-*")]
        return sorted({path.parent.name for path in found})

    def remove_leftovers(self, job_id: str) -> None:
        """Deletes the upload and unfinished results of a job that has ended."""
        self.remove_target(job_id)
        for left in self.of(job_id).glob(".attempt-*"):
            shutil.rmtree(left, ignore_errors=True)

    def remove(self, job_id: str) -> None:
        """Deletes the job's folder, if there is one. Raises ResourceError 'storage_unusable' if it stays."""
        delete(self.of(job_id))

    def remove_marked(self, job_id: str) -> None:
        """Deletes the job's files and leaves a mark, which ``forget`` removes after the job's row.

        A full disk does not prevent this. Raises ResourceError 'storage_unusable' if the files stay.
        """
        mark = self._mark(job_id)
        try:
            with suppress(FileNotFoundError):
                os.rename(self.of(job_id), mark)  # at once: no reader sees a part of the files
            for path in mark.iterdir() if mark.is_dir() else ():
                delete(path)
        except OSError as error:
            raise unusable(error) from error

    def forget(self, job_id: str) -> None:
        """Removes the mark of a job whose files and row are deleted."""
        with suppress(OSError):
            self._mark(job_id).rmdir()

    def marked(self) -> list[str]:
        """Ids of the jobs whose files were deleted ``_MARK_SECONDS`` ago and whose rows may still say otherwise."""
        before, found = time.time() - _MARK_SECONDS, []
        for mark in self.folder.glob(f"*{_DELETED}"):
            with suppress(FileNotFoundError):
                if mark.stat().st_mtime < before:
                    found.append(mark.name.removesuffix(_DELETED))
        return found

    def _mark(self, job_id: str) -> Path:
        return self.folder / f"{job_id}{_DELETED}"

    def untouched(self) -> list[str]:
        """Ids of jobs whose folder has not changed for ``_ORPHAN_SECONDS``."""
        if not self.folder.is_dir():
            return []
        before = time.time() - _ORPHAN_SECONDS
        folders = [path for path in self.folder.iterdir() if path.is_dir() and path.suffix != _DELETED]
        return [path.name for path in folders if path.stat().st_mtime < before]
