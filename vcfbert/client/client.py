"""The calls of a vcfbert service: models, QC, imputation at once, and jobs."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlencode

from vcfbert.artifacts import PRIVATE, atomic_file, output_error
from vcfbert.client import shapes
from vcfbert.client.connection import ByteProgress, Connection, answer_invalid, cut_as_error, json_object, pauses
from vcfbert.client.failures import job_error
from vcfbert.errors import InputError, ResourceError

if TYPE_CHECKING:
    import httpx

FORMATS: Final = ("vcf.gz", "bcf")
_ASK_OPERATOR: Final = "run it again, or ask the operator"
_MAX_PAGES: Final = 10_000  # of a list of jobs

JobProgress = Callable[[dict[str, Any]], None]  # the job in its present state


class Client:
    """Calls one service. Every method raises InputError, with the service's code, where the service refuses a request,
    and ResourceError where the service lacks something or cannot be reached.

    ``patience``: seconds during which a request is repeated after a temporary refusal or a failed connection. A target
    that the service may have received whole is not sent twice.
    """

    def __init__(self, url: str, key: str | None = None, *, timeout: float = 60.0, patience: float = 120.0) -> None:
        self._connection = Connection(url, key, timeout=timeout, patience=patience)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Address of the service."""
        return self._connection.url

    def close(self) -> None:
        self._connection.close()

    def models(self) -> dict[str, Any]:
        """The served ``models``, the default one first, and the ``unavailable`` ones with their reasons."""
        return self._connection.json("GET", "/v1/models", shapes.MODELS)

    def qc(
        self,
        target: Path,
        *,
        model: str | None = None,
        chain: str | None = None,
        progress: ByteProgress | None = None,
    ) -> dict[str, Any]:
        """The QC report of the target against a model's panel. ``refused`` in it says why the service would not impute
        the target. ``chain``: name of a chain file that the service offers, for a target of another build."""
        with self._connection.upload(target, "/v1/qc", {"model": model, "chain": chain}, progress) as answer:
            report = json_object(answer, shapes.QC)
            if "n_samples" not in report and "refused" not in report:
                raise answer_invalid(answer, "the answer is not a QC report")
            return report

    def impute(
        self,
        target: Path,
        out: Path,
        *,
        model: str | None = None,
        region: str | None = None,
        fields: Sequence[str] | None = None,
        min_dr2: float | None = None,
        chain: str | None = None,
        progress: ByteProgress | None = None,
    ) -> dict[str, Any]:
        """Imputes a small target in one request, writes ``out`` (.vcf.gz or .bcf, without an index) and returns the QC
        summary. Raises InputError 'use_jobs' for a larger target."""
        options = {**_options(region, fields, min_dr2), "model": model, "chain": chain, "format": format_of(out)}
        with self._connection.upload(target, "/v1/impute", options, progress) as answer:
            qc = _qc_header(answer)
            with (
                atomic_file(out, private=True) as temporary,
                temporary.open("wb") as handle,
                cut_as_error(str(answer.url)),
            ):
                for chunk in answer.iter_raw():
                    handle.write(chunk)
            return qc

    def submit(
        self,
        target: Path,
        *,
        model: str | None = None,
        region: str | None = None,
        format: str = "vcf.gz",
        fields: Sequence[str] | None = None,
        min_dr2: float | None = None,
        chain: str | None = None,
        progress: ByteProgress | None = None,
    ) -> dict[str, Any]:
        """Uploads a target as a new job and returns the job. ``progress`` receives the uploaded bytes."""
        options = {**_options(region, fields, min_dr2), "model": model, "chain": chain, "format": format}
        with self._connection.upload(target, "/v1/jobs", options, progress) as answer:
            return json_object(answer, shapes.SUBMITTED)

    def jobs(self) -> list[dict[str, Any]]:
        """The jobs of this key, newest first, without QC reports, options and links, which ``job`` has."""
        return list(self.each_job())

    def each_job(self) -> Iterator[dict[str, Any]]:
        """The jobs of this key, as in ``jobs``, a page after the other."""
        cursor = None
        for _ in range(_MAX_PAGES):
            path = "/v1/jobs" if cursor is None else f"/v1/jobs?{urlencode({'cursor': cursor})}"
            page = self._connection.json("GET", path, shapes.JOBS)
            yield from page["jobs"]
            cursor = page.get("next")
            if cursor is None:
                return
        raise ResourceError("answer_invalid", "the list of jobs does not end", where=self.url, hint=_ASK_OPERATOR)

    def job(self, job_id: str) -> dict[str, Any]:
        """One job. Raises InputError 'job_unknown'."""
        with self._connection.get_answer("GET", _path(job_id)) as answer:
            job = json_object(answer, shapes.JOB)
            if job["state"] == "done" and (wrong := shapes.misfit(job, shapes.DONE_JOB)) is not None:
                raise answer_invalid(answer, f"the answer has no valid member {wrong!r}")
            return job

    def wait(self, job_id: str, *, progress: JobProgress | None = None, timeout: float | None = None) -> dict[str, Any]:
        """Waits until the job is done and returns it.

        Raises the error of a failed job, InputError 'cancelled' or 'expired', and ResourceError 'not_done' after
        ``timeout`` seconds.
        """
        end = None if timeout is None else time.monotonic() + timeout
        for pause in pauses():
            job = self.job(job_id)
            if progress is not None:
                progress(job)
            if job["state"] == "done":
                return job
            if job["state"] not in ("queued", "running"):
                raise job_error(job)
            if end is not None and time.monotonic() + pause > end:
                what = f"the job is {job['state']} after {timeout:g} seconds"
                raise ResourceError("not_done", what, hint="the job continues: wait for it again")
            time.sleep(pause)
        raise AssertionError  # pauses are endless

    def download(self, job_id: str, out: Path, *, what: str = "result", progress: ByteProgress | None = None) -> Path:
        """Downloads a file of the job to ``out``: its ``result``, ``result/index``, ``qc/sites`` or ``report``.

        After a cut connection, the bytes received so far stay in a file beside ``out``. This call and later ones
        resume from there.
        """
        part = out.with_name(f".{out.name}.{_checked_id(job_id)}.part")
        end = time.monotonic() + self._connection.patience
        for pause in pauses():
            before, whole = _size(part), False
            try:
                whole = self._download_once(f"{_path(job_id)}/{what}", part, progress)
            except ResourceError as error:
                if error.code != "service_unreachable" or time.monotonic() > end:
                    raise
            except OSError as error:
                raise output_error(error, out) from error
            if whole:
                with atomic_file(out) as temporary:
                    os.replace(part, temporary)
                return out
            if _size(part) > before:
                end = time.monotonic() + self._connection.patience
            elif time.monotonic() > end:
                text = "the service sends this file without completing it"
                raise ResourceError("answer_invalid", text, where=self.url, hint=_ASK_OPERATOR)
            else:
                time.sleep(pause)
        raise AssertionError  # pauses are endless

    def cancel(self, job_id: str) -> None:
        """Cancels the job, or deletes it if it has ended. The service deletes its files."""
        self._connection.request("DELETE", _path(job_id))

    def _download_once(self, path: str, part: Path, progress: ByteProgress | None) -> bool:
        """Appends the missing bytes to ``part``. True once it is whole. Raises ResourceError on a cut connection."""
        part.parent.mkdir(parents=True, exist_ok=True)
        have = _size(part)
        headers = {"Range": f"bytes={have}-"} if have else {}
        with self._connection.get_answer("GET", path, headers) as answer:
            if answer.status_code == 416:
                if answer.headers.get("Content-Range") == f"bytes */{have}":
                    return True
                part.unlink(missing_ok=True)  # it belongs to another file
                return False
            begin, total = _content_range(answer)
            if begin not in (0, have):
                raise answer_invalid(answer, f"byte {have} was requested, and byte {begin} was received")
            have = begin
            part.touch(PRIVATE)
            with part.open("r+b" if have else "wb") as handle, cut_as_error(str(answer.url)):
                handle.seek(have)
                for chunk in answer.iter_raw():
                    handle.write(chunk)
                    have += len(chunk)
                    if progress is not None:
                        progress(have, total)
        return have == total


def format_of(out: Path) -> str:
    """The output format that the name of ``out`` asks for. Raises InputError 'option_format'."""
    for extension in FORMATS:
        if out.name.endswith(f".{extension}"):
            return extension
    hint = "give it one of these extensions"
    raise InputError("option_format", "the output is neither .vcf.gz nor .bcf", where=str(out), hint=hint)


def _options(region: str | None, fields: Sequence[str] | None, min_dr2: float | None) -> dict[str, str | None]:
    listed = ",".join(fields) if fields else None
    return {"region": region, "fields": listed, "min_dr2": None if min_dr2 is None else str(min_dr2)}


def _checked_id(job_id: str) -> str:
    """``job_id``, which becomes part of a path and of a file's name. Raises InputError 'job_unknown'."""
    if not re.fullmatch(r"[0-9A-Za-z-]{1,64}", job_id):
        raise InputError("job_unknown", f"{job_id!r} is not a job id", hint="`vcfbert remote jobs` lists them")
    return job_id


def _path(job_id: str) -> str:
    return f"/v1/jobs/{_checked_id(job_id)}"


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _qc_header(answer: httpx.Response) -> dict[str, Any]:
    """The QC summary of an imputed file."""
    try:
        qc = json.loads(answer.headers.get("X-Vcfbert-Qc", ""))
    except (ValueError, RecursionError):
        qc = None
    if not isinstance(qc, dict):
        raise answer_invalid(answer, "the answer is not an imputed file")
    return qc


def _content_range(answer: httpx.Response) -> tuple[int, int]:
    """The position of the answer's first byte, and the length of the whole file."""
    if answer.status_code == 206:
        match = re.fullmatch(r"bytes (\d{1,18})-\d+/(\d{1,18})", answer.headers.get("Content-Range", ""))
        if match is None:
            raise answer_invalid(answer, "the answer is a part of a file without its range")
        return int(match[1]), int(match[2])
    if not answer.headers.get("Content-Length", "").isdecimal():
        raise answer_invalid(answer, "the answer is a file without its length")
    return 0, int(answer.headers["Content-Length"])
